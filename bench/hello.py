"""The bare server's hello: the least an ASGI application can do, with an answer as large as the poll's.

The difference to a poll is what our Python costs; the rest is the server's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BODY = Path(os.environ["BENCH_HELLO_BODY"]).read_bytes()
_START = {
    "type": "http.response.start",
    "status": int(os.environ["BENCH_HELLO_STATUS"]),
    "headers": [
        *([(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))] if _BODY else []),
        (b"etag", b'"%s"' % (b"0" * 64)),
        (b"aerogram-revision", b"1"),
        (b"cache-control", b"private, max-age=60, no-transform"),
        (b"vary", b"Aerogram-Unit"),
    ],
}
_END = {"type": "http.response.body", "body": _BODY, "more_body": False}


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    if scope["type"] == "http":
        await send(_START)
        await send(_END)
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
