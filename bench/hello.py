"""The bare server's hello: the device plane's own server and parser, with one fixed answer as large as the poll's.

The difference to a poll is what understanding the request and deciding cost; the rest is the server's.
"""

from __future__ import annotations

import os
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from deploy.device_server import config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Hello:
    """An application of which every request takes the fast lane."""

    def __init__(self, status: HTTPStatus, body: bytes) -> None:
        described = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) if body else b""
        self.start = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.rest = (
            described + b'etag: "%s"\r\naerogram-revision: 1\r\n' % (b"0" * 64)
            + b"cache-control: private, max-age=60, no-transform\r\nvary: Aerogram-Unit\r\n\r\n"
            + body
        )  # fmt: skip
        self.fast_lane = self

    def answer(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], default_headers: bytes
    ) -> bytes:
        del method, target, headers
        return b"".join((self.start, default_headers, self.rest))

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        assert scope["type"] == "lifespan", "requests take the fast lane"
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


if __name__ == "__main__":
    hello = Hello(HTTPStatus(int(os.environ["BENCH_HELLO_STATUS"])), Path(os.environ["BENCH_HELLO_BODY"]).read_bytes())
    uvicorn.Server(config(hello, "127.0.0.1", int(sys.argv[1]), 1)).run()
