"""Tell the device planes that a revision is there. A hint: without it they find it at their next look at the tree."""

import json
import logging

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from distribution.device_plane.redis_revisions import CHANNEL

TIMEOUT_SECONDS = 0.5

logger = logging.getLogger(__name__)


def announce_revision(application: str, revision: int) -> None:
    """Called when `timestamp.json` is written. Never raises, and holds a publication up by half a second at most."""
    try:
        with Redis.from_url(
            str(settings.EVENT_STREAM_URL),
            socket_timeout=TIMEOUT_SECONDS / 2,
            socket_connect_timeout=TIMEOUT_SECONDS / 2,
            retry=Retry(NoBackoff(), 0),
        ) as redis:
            redis.publish(CHANNEL, json.dumps({"application": application, "revision": revision}))
    except (RedisError, OSError) as error:
        logger.info("application %s: revision %d was not announced: %s", application, revision, error)
