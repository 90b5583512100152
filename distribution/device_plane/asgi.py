"""Small change of an ASGI application: whole answers, whole bodies, problems."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from distribution.device_plane.events import too_large
from distribution.device_plane.poll import Headers
from distribution.device_plane.problems import Problem

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = b"application/json"


def accepts_gzip(header: bytes) -> bool:
    """RFC 9110 section 12.5.3, as far as gzip goes: named (or `*`) and not refused with q=0."""
    wanted: dict[bytes, bool] = {}
    for item in header.lower().split(b","):
        name, _, weight = item.partition(b";")
        wanted[name.strip()] = weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return wanted.get(b"gzip", wanted.get(b"*", False))


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, most_bytes: int) -> bytes:
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared[:19]) > most_bytes:
        raise too_large(f"{most_bytes} bytes")
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "incomplete_body", "body: expected the whole of it, got a closed connection")
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        more = message.get("more_body", False)
        if size > most_bytes:
            raise too_large(f"{most_bytes} bytes")
    return b"".join(chunks)


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_json(send: Send, status: int, document: Mapping[str, Any]) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    length = b"%d" % len(body)
    await send_answer(
        send, status, [(b"content-type", JSON), (b"content-length", length), (b"cache-control", b"no-store")], body
    )


async def send_problem(scope: Scope, send: Send, problem: Problem) -> None:
    body, headers = _described(problem)
    await send_answer(send, problem.status, headers, b"" if scope["method"] == "HEAD" else body)


async def refuse_websocket(send: Send, problem: Problem) -> None:
    """An HTTP answer in place of the upgrade."""
    body, headers = _described(problem)
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


def _described(problem: Problem) -> tuple[bytes, Headers]:
    body = problem.body()
    fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in problem.headers.items()]
    return body, [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)), *fields]
