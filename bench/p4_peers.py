"""P4: a poll answered with 200, against what Kinto, MLflow and Unleash answer in its place, on the same core.

A peer runs only while it is measured, beside the device plane, and the two alternate.
"""

from __future__ import annotations

from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING

from bench.environments import NotInstalled
from bench.harness import MeasurementError, Run
from bench.outcome import Measurement, Ratio, Series, ratio
from bench.peers import KINTO, MLFLOW, UNLEASH, Database, Peer, Peers, database
from bench.polls import FULL, full_runs, poll_servers
from deploy.dev.errors import DevError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.harness import Harness

IDENTIFIER = "P4"
TITLE = "poll, 200, against Kinto, MLflow and Unleash in their production servers"
PACKAGES = {"kinto": KINTO, "mlflow": MLFLOW, "unleash": UNLEASH}
_CONNECTIONS = 16  # enough to keep each of them busy, and few enough to wait for within a run
_AIM = "≥ 5"


def measure(harness: Harness) -> Measurement:
    ratios: list[Ratio] = []
    series: list[Series] = []
    absent: list[str] = []
    with ExitStack() as running:
        servers = running.enter_context(poll_servers(harness, status=HTTPStatus.OK))
        store = running.enter_context(database(harness.folder))
        peers = Peers(harness.folder, harness.cores.server)
        for name, start in {"kinto": peers.kinto, "mlflow": peers.mlflow, "unleash": peers.unleash}.items():
            try:
                plane, other, requests = _beside(harness, full_runs(harness, servers)[0], start, store)
            except (NotInstalled, DevError, MeasurementError) as error:
                absent.append(f"{name} was not measured: {error}")
                harness.say(f"  {absent[-1]}")
                continue
            series += [plane, other]
            ratios.append(ratio("polls per second", plane, other, "requests_per_second", _AIM, times=requests))
    if not ratios:
        return Measurement(IDENTIFIER, TITLE, skipped="; ".join(absent))
    facts = {name: " ".join(packages) for name, packages in PACKAGES.items()} | {
        "mlflow": f"{' '.join(MLFLOW)}, two requests for one poll",
        "the peers' PostgreSQL": "on the load generator's core, its work not counted as theirs",
    }
    return Measurement(IDENTIFIER, TITLE, series, ratios, facts=facts, notes=absent)


def _beside(
    harness: Harness,
    plane: Run,
    start: Callable[[Database], AbstractContextManager[Peer]],
    store: Database,
) -> tuple[Series, Series, int]:
    """The device plane and one peer in turn, and how many of the peer's requests stand for a poll."""
    with start(store) as peer:
        requests = harness.write_requests(peer.server.name, peer.requests)
        other = Run(peer.server, requests, FULL, _CONNECTIONS, peer.expected, beside_seconds=store.cpu_seconds)
        ours, theirs = harness.alternate([plane, other])
    return ours, theirs, len(peer.requests)
