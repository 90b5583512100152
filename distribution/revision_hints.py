"""Tell the device planes that a revision is there. A hint: without it they find it at their next look at the tree."""

import logging

from django.conf import settings
from redis.exceptions import RedisError

from distribution.device_plane.redis_revisions import publish_revision

logger = logging.getLogger(__name__)


def announce_revision(application: str, revision: int) -> None:
    """Called when `timestamp.json` is written. Never raises, and holds a publication up by half a second at most."""
    try:
        publish_revision(str(settings.EVENT_STREAM_URL), application, revision)
    except (RedisError, OSError) as error:
        logger.info("application %s: revision %d was not announced: %s", application, revision, error)
