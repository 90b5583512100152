"""P3: what nginx answers by itself with the configuration that Aerogram ships: polls without a unit, from its cache,
and the static catalog. Against nginx serving the same bytes as static files on the same core.
"""

from __future__ import annotations

import http.client
from collections import Counter
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from bench.harness import MeasurementError, Request, Run
from bench.outcome import Measurement, ratio
from bench.polls import CONNECTIONS
from bench.published import APPLICATION, CHANNEL, POLL_PATH, phones, publish
from bench.sites import Sites
from distribution.device_plane.tree import LocalTree
from distribution.tree_export import export_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Harness
    from bench.servers import Server

IDENTIFIER = "P3"
TITLE = "public polls from nginx' cache and the static catalog, in the shipped configuration"
CATALOG_PATH = f"/v1/apps/{APPLICATION}/channels/{CHANNEL}/catalog"
_POLLS, _CATALOG = "polls without a unit", "catalog"


class _Public(NamedTuple):
    shipped: Server
    static: Server
    poll_bytes: int
    catalog_bytes: int


def measure(harness: Harness) -> Measurement:
    with _servers(harness) as public:
        polls = harness.write_requests("public", (Request(phone.target, unit="") for phone in phones()))
        catalog = harness.write_requests("catalog", [Request(CATALOG_PATH, unit="")])
        near_poll = range(public.poll_bytes // 2, public.poll_bytes * 2)
        near_catalog = range(public.catalog_bytes, public.catalog_bytes + 1_000)
        taken = harness.alternate(
            [
                Run(server, requests, load, CONNECTIONS, expected)
                for requests, load, expected in ((polls, _POLLS, near_poll), (catalog, _CATALOG, near_catalog))
                for server in (public.shipped, public.static)
            ]
        )
        facts = {
            "different queries": len(phones()),
            "poll bytes": public.poll_bytes,
            "catalog bytes": public.catalog_bytes,
            "the cache at the end": _cache_says(public.shipped),
        }
    ratios = []
    for load, aim, (ours, theirs) in ((_POLLS, "≥ 0.80", taken[:2]), (_CATALOG, "≥ 0.95", taken[2:])):
        ratios.append(ratio(f"requests per second, {load}", ours, theirs, "requests_per_second", aim))
        ratios.append(ratio(f"server CPU per request, {load}", ours, theirs, "server_cpu_us", ""))
    return Measurement(IDENTIFIER, TITLE, taken, ratios, facts=facts)


@contextmanager
def _servers(harness: Harness) -> Iterator[_Public]:
    store, public = harness.folder / "store", harness.folder / "public"
    place = Sites(harness.folder, harness.cores.server)
    if not store.exists():
        publish(store / "tree")
    export_tree(LocalTree(store / "tree"), APPLICATION, public)
    with ExitStack() as running:
        plane = running.enter_context(place.device_plane(store))
        shipped = running.enter_context(place.shipped(plane, public))
        bodies = _warmed(shipped)
        poll, catalog = bodies[len(bodies) // 2], plane.get(CATALOG_PATH, {}).body
        static = running.enter_context(place.nginx(POLL_PATH, poll))
        (harness.folder / "static" / CATALOG_PATH.removeprefix("/")).write_bytes(catalog)
        for server in (shipped, static):
            if server.get(CATALOG_PATH, {}).body != catalog:
                raise MeasurementError(f"{server.name}: expected the catalog of the device plane, got other bytes")
        yield _Public(shipped, static, len(poll), len(catalog))


def _warmed(shipped: Server) -> list[bytes]:
    """Every poll once, which fills the cache: the answers by length."""
    answers = list(shipped.get_all([(phone.target, {}) for phone in phones()]))
    if any(answer.status != HTTPStatus.OK for answer in answers):
        raise MeasurementError(f"expected 200 to every poll, got {sorted({answer.status for answer in answers})}")
    return sorted((answer.body for answer in answers), key=len)


def _cache_says(shipped: Server) -> dict[str, int]:
    """How the cache comes by each phone's answer: HIT, or what else nginx calls it."""
    told: Counter[str] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", shipped.port, timeout=5)
    try:
        for phone in phones():
            connection.request("GET", phone.target)
            response = connection.getresponse()
            response.read()
            told[response.headers.get("Aerogram-Cache", "none")] += 1
    finally:
        connection.close()
    return dict(told)
