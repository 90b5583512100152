"""The event stream as others than the ingester see it: connecting to it, how much lies in it, and what goes from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from redis import Redis, RedisError

from experiments.errors import EventsUnavailable

STREAM = "aerogram:events"
DEAD_LETTERS = "aerogram:events:dead"


class Backlog(NamedTuple):
    """Batches of events: those that wait for the ingester, and those that it could not store and put aside."""

    waiting: int
    put_aside: int


@contextmanager
def event_stream() -> Iterator[Redis]:
    """Raises `EventsUnavailable` when it does not answer, at the latest after ten seconds."""
    try:
        with Redis.from_url(str(settings.EVENT_STREAM_URL), socket_timeout=10, socket_connect_timeout=3) as stream:
            yield stream
    except RedisError as error:
        raise EventsUnavailable(f"expected the event stream to answer, got {type(error).__name__}") from error


def backlog(stream: Redis) -> Backlog:
    return Backlog(int(stream.xlen(STREAM)), int(stream.xlen(DEAD_LETTERS)))


def drop_dead_letters(stream: Redis, before: datetime) -> int:
    """Those put aside before a time, as old as events become: they name units. Returns how many they were."""
    # An entry's id begins with the milliseconds at which Redis took it.
    first_kept = f"{int(before.timestamp() * 1000)}-0"
    return int(stream.xtrim(DEAD_LETTERS, minid=first_kept, approximate=False))
