"""`python -m bench.live_idle`: memory of a worker for each live connection that idles, and the CPU of telling them."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from bench.published import APPLICATION, CHANNEL, publish
from bench.servers import Place

if TYPE_CHECKING:
    from bench.servers import Server

_HANDSHAKE = (
    f"GET /v1/apps/{APPLICATION}/live?channel={CHANNEL} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
_REVISION = b'"type":"revision"'
_DESCRIPTORS = 20_000


class Phone(asyncio.Protocol):
    """Counts the revisions it was told."""

    def __init__(self) -> None:
        self.told = 0
        self.first = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(_HANDSHAKE)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.told += data.count(_REVISION)
        if self.told and not self.first.done():
            self.first.set_result(None)


async def _connect(port: int, number: int) -> list[Phone]:
    loop = asyncio.get_running_loop()
    phones: list[Phone] = []
    while len(phones) < number:
        batch = min(100, number - len(phones))
        made = await asyncio.gather(*(loop.create_connection(Phone, "127.0.0.1", port) for _ in range(batch)))
        phones += [phone for _, phone in made]
        await asyncio.gather(*(phone.first for phone in phones[-batch:]))
    return phones


async def _measure(server: Server, tree: Path, steps: tuple[int, ...]) -> None:
    worker = psutil.Process(server.child.pid)
    phones: list[Phone] = []
    before = worker.memory_info().rss
    click.echo(f"{0:6} connections  {before / 2**20:7.1f} MiB")
    for step in steps:
        phones += await _connect(server.port, step - len(phones))
        rss = worker.memory_info().rss
        click.echo(f"{step:6} connections  {rss / 2**20:7.1f} MiB  {(rss - before) / step / 1024:5.1f} KiB each")
    spent = server.cpu_seconds()
    await asyncio.sleep(10)
    click.echo(f"idle: {(server.cpu_seconds() - spent) / 10:.2%} of a core, pings not yet due")
    spent, told = server.cpu_seconds(), sum(phone.told for phone in phones)
    publish(tree)
    while sum(phone.told for phone in phones) < told + len(phones):  # noqa: ASYNC110  # five thousand events, else
        await asyncio.sleep(0.01)
    click.echo(f"telling all: {(server.cpu_seconds() - spent) / len(phones) * 1e6:.0f} µs of CPU each")


@click.command()
@click.option("--connections", default=5_000, show_default=True, type=click.IntRange(1_000, 15_000))
def main(connections: int) -> None:
    """Open CONNECTIONS to one worker and print what they cost."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        publish(store / "tree")
        with Place(Path(folder), 0).device_plane(store, AEROGRAM_LIVE_PER_ADDRESS=str(_DESCRIPTORS)) as server:
            asyncio.run(_measure(server, store / "tree", (1_000, connections)))


if __name__ == "__main__":
    main()
