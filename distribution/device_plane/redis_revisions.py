"""Revisions as the publisher announces them over Redis: a hint to look at the tree at once. Nothing depends on it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import TYPE_CHECKING, Any

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from distribution.catalog import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

CHANNEL = "aerogram:revisions"
LONGEST_PAUSE_SECONDS = 5.0
ANNOUNCE_SECONDS = 0.25
SILENCE_SECONDS = 30.0
_PONG_SECONDS = 5.0

logger = logging.getLogger("aerogram.device_plane")


class RedisRevisions:
    """Subscribes for ever. A server that is away or silent is tried again, after pauses that differ among workers."""

    def __init__(self, url: str, *, longest_pause_seconds: float = LONGEST_PAUSE_SECONDS) -> None:
        self.longest_pause_seconds = longest_pause_seconds
        self.subscribed = asyncio.Event()
        self._redis = Redis.from_url(
            url, socket_connect_timeout=_PONG_SECONDS, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )

    async def listen(self, hint: Callable[[str | None], None]) -> None:
        """Calls `hint` with an application's name, or with None when anything may have been missed."""
        failures = 0
        while True:
            try:
                await self._subscription(hint)
            except (RedisError, OSError, TimeoutError) as error:
                failures = 0 if self.subscribed.is_set() else failures
                self.subscribed.clear()
                if not failures:
                    logger.warning("revisions are not announced, the tree is looked at all the same: %r", error)
                failures += 1
            pause = min(self.longest_pause_seconds, 0.1 * 2**failures)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads workers, protects nothing

    async def close(self) -> None:
        await self._redis.aclose()

    async def _subscription(self, hint: Callable[[str | None], None]) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=_PONG_SECONDS if asked else SILENCE_SECONDS)
                if message is None:
                    # A connection that was cut without a word looks like one on which nothing is published.
                    if asked:
                        raise TimeoutError(f"no answer to a ping within {_PONG_SECONDS:g} s")
                    await pubsub.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    self.subscribed.set()
                    hint(None)
                elif message["type"] == "message":
                    hint(_application(message["data"]))


def publish_revision(url: str, application: str, revision: int) -> None:
    """The publisher's side. Raises RedisError or OSError, after half a second at most."""
    with redis.Redis.from_url(
        url,
        socket_timeout=ANNOUNCE_SECONDS,
        socket_connect_timeout=ANNOUNCE_SECONDS,
        retry=redis.retry.Retry(NoBackoff(), 0),
    ) as client:
        client.publish(CHANNEL, json.dumps({"application": application, "revision": revision}))


def _application(data: Any) -> str | None:
    """The application named in an announcement; None if it names none that could be."""
    try:
        name = json.loads(data)["application"]
    except (ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) and NAME.fullmatch(name) else None
