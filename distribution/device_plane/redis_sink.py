"""The event stream on Redis. Its time limits are its own: a slow Redis costs events a 503, and polls nothing."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from distribution.device_plane.events import SinkUnavailableError

STREAM = "aerogram:events"


class RedisEventSink:
    """One XADD a batch. Redis answers after its append-only file has the batch (appendfsync always)."""

    def __init__(
        self, url: str, *, timeout_seconds: float = 2.0, most_in_flight: int = 64, stream: str = STREAM
    ) -> None:
        self.stream = stream
        self.timeout_seconds = timeout_seconds
        self.most_in_flight = most_in_flight
        self._in_flight = 0
        # No retries here: the phone keeps the batch and comes back, and a retried XADD could append it twice.
        self._redis = Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds / 2,
            retry=Retry(NoBackoff(), 0),
            max_connections=most_in_flight,
        )

    async def append(self, fields: Mapping[str, str]) -> None:
        if self._in_flight >= self.most_in_flight:
            raise SinkUnavailableError(f"{self._in_flight} batches are waiting for the event stream")
        self._in_flight += 1
        try:
            async with asyncio.timeout(self.timeout_seconds):
                entry: dict[Any, Any] = dict(fields)
                await self._redis.xadd(self.stream, entry)
        except (RedisError, OSError, TimeoutError) as error:
            raise SinkUnavailableError(f"the event stream did not answer: {error or type(error).__name__}") from error
        finally:
            self._in_flight -= 1

    async def close(self) -> None:
        await self._redis.aclose()
