"""P1: a poll answered with 200, against nginx serving the same bytes as a static file on the same core."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from bench.outcome import Measurement, ratio
from bench.polls import HALF, PACED_CONNECTIONS, full_runs, poll_servers

if TYPE_CHECKING:
    from bench.harness import Harness

IDENTIFIER = "P1"
TITLE = "poll, 200: one model, 10 device classes, 1 experiment, a new unit for every request"
SAME = "the device plane's half"
_RATE_AIM = "≥ 0.40 (first form ≥ 0.25)"


def measure(harness: Harness) -> Measurement:
    with poll_servers(harness, status=HTTPStatus.OK) as servers:
        runs = full_runs(harness, servers)
        full = harness.alternate(runs)
        plane, nginx, hello = full
        half_rates = [series.median("requests_per_second") / 2 for series in (plane, nginx)]
        half = harness.alternate(
            [
                harness.paced(runs[0], load=HALF, rate=half_rates[0], connections=PACED_CONNECTIONS),
                harness.paced(runs[1], load=HALF, rate=half_rates[1], connections=PACED_CONNECTIONS),
                harness.paced(runs[1], load=SAME, rate=half_rates[0], connections=PACED_CONNECTIONS),
            ]
        )
        facts = servers.facts()
    rate = "requests_per_second"
    ratios = [
        ratio("requests per second", plane, nginx, rate, _RATE_AIM),
        ratio("requests per second, of the bare server", plane, hello, rate, ""),
        ratio("requests per second, bare server", hello, nginx, rate, ""),
        ratio("server CPU per request", plane, nginx, "server_cpu_us", ""),
        ratio("p99, each at half of its own rate", half[0], half[1], "p99_us", "≤ 3"),
        ratio("p99, both at half of the device plane's rate", half[0], half[2], "p99_us", ""),
    ]
    return Measurement(IDENTIFIER, TITLE, [*full, *half], ratios, facts=facts)
