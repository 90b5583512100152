"""The device plane behind real sockets, in a thread of the test: uvicorn, uvloop and our protocol, as in production."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import uvicorn

from deploy.device_server import config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PATIENCE_SECONDS = 120.0  # only what fails waits as long


class Raw(NamedTuple):
    """An answer as it came over the wire; `head` without the Date line."""

    status: int
    head: bytes
    body: bytes


class Served:
    """A running server. `call` runs something on its event loop and waits for it."""

    def __init__(self, application: object) -> None:
        self.application = application
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.server = uvicorn.Server(config(application, "127.0.0.1", self.port, 1))
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        startup = self.server.startup

        async def announced(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            self.loop = asyncio.get_running_loop()
            self.started.set()

        self.server.startup = announced  # type: ignore[method-assign]
        self.server.run(sockets=[self.listener])

    def start(self) -> None:
        self.thread.start()
        assert self.started.wait(PATIENCE_SECONDS), "the server did not start"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive(), "the server did not stop"

    def call(self, function: Callable[..., object], *arguments: object) -> object:
        async def run() -> object:
            return function(*arguments)

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_SECONDS)

    def wait(self, awaitable: Awaitable[object]) -> object:
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self.loop).result(PATIENCE_SECONDS)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that a message on its way will bring about, looking from the event loop."""

        async def look() -> None:
            while not condition():  # noqa: ASYNC110  # what is looked at sets no event
                await asyncio.sleep(0.001)

        assert self.loop is not None
        looking = asyncio.wait_for(look(), PATIENCE_SECONDS)
        asyncio.run_coroutine_threadsafe(looking, self.loop).result(PATIENCE_SECONDS + 1)

    def connect(self) -> Connection:
        return Connection(self.port)

    @property
    def connections(self) -> list[object]:
        return list(self.server.server_state.connections)


class Connection:
    """A plain socket that reads answers by their Content-Length."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, head_only: bool = False) -> Raw:
        self.send(data)
        return self.read(head_only=head_only)

    def read(self, *, head_only: bool = False) -> Raw:
        """The next answer. Raises EOFError if the connection ends before."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status = int(head[9:12])
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        length = int(found[1]) if found and not head_only and status != 304 else 0
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Raw(status, re.sub(rb"(?i)\r\ndate: [^\r]*", b"", head), body)

    def is_closed(self) -> bool:
        """Whether the server says no more: waits for its end of the connection."""
        try:
            rest = self.socket.recv(65_536)
        except ConnectionError:
            return True
        self.buffer += rest
        return not rest

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data


@contextmanager
def served(application: object) -> Iterator[Served]:
    server = Served(application)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
