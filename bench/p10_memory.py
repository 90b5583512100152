"""P10: a source of 2 GiB goes up through the control plane and comes down from the device plane; how far their memory
rises meanwhile, in all their processes together. Both run as `make run` starts them, on a PostgreSQL of their own.

Growth is the highest resident memory during the transfer less what was resident before it, after a small transfer of
the same kind, so that imports and pools do not count.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from bench.harness import MeasurementError
from bench.outcome import Measurement, Table
from deploy.dev import ports, programs, services
from deploy.dev.children import Child
from tests.simulators import PublishedTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.harness import Harness

IDENTIFIER = "P10"
TITLE = "memory of the servers while a source of 2 GiB goes up and comes down"
NEEDS_SERVERS = False

APPLICATION = "demo"  # which the first run makes
MOST_MIB = 64
GIB, MIB = 1 << 30, 1 << 20
_SMALL = 8 * MIB
_START_SECONDS, _TRANSFER_SECONDS = 90.0, 600.0
_PIECE = hashlib.shake_256(b"aerogram").digest(MIB)


@dataclass(frozen=True)
class Stack:
    """The two planes over one store."""

    web: Child
    device: Child
    web_url: str
    device_port: int
    token: str
    blobs: Path


@dataclass(frozen=True)
class Transfer:
    seconds: float
    growth_bytes: int
    resident_bytes: int


def measure(harness: Harness, size_bytes: int = 2 * GIB) -> Measurement:
    with _running(harness.folder / "stack") as stack:
        harness.say(f"  a source of {size_bytes / GIB:.3g} GiB")
        small = _upload(stack, _SMALL)
        digest = ""

        def upload() -> None:
            nonlocal digest
            digest = _upload(stack, size_bytes)

        up = _watched(stack.web, upload)
        _publish(stack, (small, digest))
        _download(stack, small)
        down = _watched(stack.device, lambda: _download(stack, digest))
    rows = tuple(_row(*each, size_bytes) for each in (("upload, control plane", up), ("download, device plane", down)))
    for row in rows:
        harness.say("  " + "  ".join(row))
    columns = ("transfer", "MiB grown", "aim", "MiB before", "seconds", "MB/s")
    return Measurement(IDENTIFIER, TITLE, tables=[Table("", columns, rows)], facts={"bytes": f"{size_bytes:,}"})


def _row(name: str, transfer: Transfer, size_bytes: int) -> tuple[str, ...]:
    return (
        name,
        f"{transfer.growth_bytes / MIB:.1f}",
        f"< {MOST_MIB}",
        f"{transfer.resident_bytes / MIB:.0f}",
        f"{transfer.seconds:.1f}",
        f"{size_bytes / 1e6 / transfer.seconds:.0f}",
    )


def pieces(size_bytes: int) -> Iterator[bytes]:
    """Bytes that do not compress and never repeat as a whole piece, without a file of that size."""
    for number in range(0, size_bytes, MIB):
        piece = number.to_bytes(8, "big") + _PIECE[8:]
        yield piece[: size_bytes - number]


def _upload(stack: Stack, size_bytes: int) -> str:
    """The digest, once the control plane has taken the bytes."""
    digest = hashlib.sha256()
    for piece in pieces(size_bytes):
        digest.update(piece)
    answer = httpx.post(
        f"{stack.web_url}/api/v1/applications/{APPLICATION}/uploads",
        params={"file_name": "model.tflite", "sha256": digest.hexdigest()},
        content=pieces(size_bytes),
        headers={
            "Authorization": f"Bearer {stack.token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size_bytes),
        },
        timeout=_TRANSFER_SECONDS,
    )
    if answer.status_code != HTTPStatus.CREATED or answer.json()["sha256"] != digest.hexdigest():
        raise MeasurementError(f"upload: expected 201 and the digest, got {answer.status_code} {answer.text[:300]}")
    return digest.hexdigest()


def _publish(stack: Stack, digests: tuple[str, ...]) -> None:
    """A tree in the same store, whose blobs are the very files that were uploaded."""
    tree = PublishedTree(stack.blobs / "tree", application=APPLICATION, now=datetime.now(UTC))
    tree.release("digits", 1, {"tflite-float32": {"model.tflite": b"weights"}})
    for digest in digests:
        (stored,) = [path for path in stack.blobs.rglob(digest) if path.is_file()]
        place = tree.folder / "blobs" / "sha256" / digest[:2] / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(stored, place)
    tree.publish()
    _await(lambda: APPLICATION in _healthy(stack)["applications"], "the device plane to serve the tree")


def _healthy(stack: Stack) -> Any:
    return httpx.get(f"http://127.0.0.1:{stack.device_port}/healthz").json()


def _download(stack: Stack, digest: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.device_port, timeout=_TRANSFER_SECONDS)
    try:
        connection.request("GET", f"/v1/apps/{APPLICATION}/blobs/sha256/{digest}")
        response = connection.getresponse()
        got = hashlib.sha256()
        while piece := response.read(MIB):
            got.update(piece)
    finally:
        connection.close()
    if response.status != HTTPStatus.OK or got.hexdigest() != digest:
        raise MeasurementError(f"download: expected {digest}, got {response.status} with {got.hexdigest()}")


def _watched(child: Child, transfer: Callable[[], None]) -> Transfer:
    leader = psutil.Process(child.pid)
    watched = [process.pid for process in (leader, *leader.children(recursive=True))]
    before = [_resident_from_now_on(pid) for pid in watched]
    started = time.monotonic()
    transfer()
    seconds = time.monotonic() - started
    grown = sum(_status_bytes(pid, "VmHWM") - resident for pid, resident in zip(watched, before, strict=True))
    return Transfer(seconds, grown, sum(before))


def _resident_from_now_on(pid: int) -> int:
    """What is resident now; the kernel's record of the highest begins anew with it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5\n")
    return _status_bytes(pid, "VmRSS")


def _status_bytes(pid: int, member: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{member}:"))


@contextmanager
def _running(folder: Path) -> Iterator[Stack]:
    planned = services.Services.plan(folder, postgres_settings=services.VOLATILE)
    (web_port, web_held), (device_port, device_held) = ports.reserve(), ports.reserve()
    addresses = programs.Addresses(ports.LOOPBACK, web_port, device_port)
    children = planned.children
    try:
        planned.start()
        variables = programs.environment(planned.layout, addresses, _ours(planned, addresses))
        for name, *arguments in (("migrate", "migrate", "--no-input"), ("first_run", "first_run")):
            _complete(programs.manage(name, *arguments, variables=variables), planned)
        for part in programs.programs(planned.layout, addresses, variables):
            if part.name in ("web", "device"):
                children[part.name] = Child(part, run=planned.layout.run, logs=planned.layout.logs)
                children[part.name].start()
        for name in ("web", "device"):
            children[name].wait_until_ready(_START_SECONDS)
        token = (planned.layout.secrets / "api-token").read_text().strip()
        url = variables["AEROGRAM_WEB_URL"]
        yield Stack(children["web"], children["device"], url, device_port, token, planned.layout.blobs)
    finally:
        planned.stop()
        web_held.close()
        device_held.close()


def _ours(planned: services.Services, addresses: programs.Addresses) -> dict[str, str]:
    """What the caller's environment says of these must not lead us to servers in use."""
    layout = planned.layout
    return {
        **planned.environment(),
        "AEROGRAM_VAR_DIR": str(layout.root),
        "AEROGRAM_ONLINE_KEYS_DIR": str(layout.online_keys),
        "AEROGRAM_WEB_URL": f"http://{addresses.local}:{addresses.web_port}",
        "AEROGRAM_DEVICE_URL": f"http://{addresses.local}:{addresses.device_port}",
        "BLOB_STORE_URL": layout.blobs.as_uri(),
    }


def _complete(part: programs.Part, planned: services.Services) -> None:
    child = Child(part, run=planned.layout.run, logs=planned.layout.logs)
    child.start()
    _await(lambda: not child.is_running(), f"the end of {part.name}")
    child.finish()
    if child.exit_code() != 0:
        raise MeasurementError(f"{part.name}: expected success, got {child.tail()}")


def _await(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise MeasurementError(f"waited {_START_SECONDS:g} s for {what}")
        time.sleep(0.05)
