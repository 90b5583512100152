"""Webhooks of an application hear what devices get now."""

from collections.abc import Iterable
from datetime import datetime

from distribution.models import Release
from registry.models import Channel
from registry.services.webhooks import notify
from registry.webhooks.messages import RELEASE_PUBLISHED


def announce_releases(channel: Channel, became_live: Iterable[int], now: datetime) -> None:
    """Tell of each release that became live. Call in the transaction that says so; saying it twice tells it once."""
    rows = Release.objects.filter(pk__in=list(became_live)).select_related("model_version__model")
    for release in rows:
        notify(
            application=channel.application,
            event_type=RELEASE_PUBLISHED,
            subject=f"release {release.pk} revision {release.live_revision}",
            data={
                "channel": channel.slug,
                "model": release.model_version.model.slug,
                "version": release.model_version.number,
                "revision": release.live_revision,
                "is_rollback": release.is_rollback,
                "released_by": release.released_by,
                "reason": release.reason,
            },
            now=now,
        )
