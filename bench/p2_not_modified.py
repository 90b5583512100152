"""P2: a poll answered with 304, against nginx' own 304 on the same core."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from bench.outcome import Measurement, ratio
from bench.polls import not_modified_runs, poll_servers

if TYPE_CHECKING:
    from bench.harness import Harness

IDENTIFIER = "P2"
TITLE = "poll, 304: every phone sends the tag of its own last answer"


def measure(harness: Harness) -> Measurement:
    with poll_servers(harness, status=HTTPStatus.NOT_MODIFIED) as servers:
        plane, nginx, hello = harness.alternate(not_modified_runs(harness, servers))
        facts = servers.facts() | {"phones": len(servers.polled)}
    rate = "requests_per_second"
    ratios = [
        ratio("requests per second", plane, nginx, rate, "≥ 0.40"),
        ratio("requests per second, of the bare server", plane, hello, rate, ""),
        ratio("requests per second, bare server", hello, nginx, rate, ""),
        ratio("server CPU per request", plane, nginx, "server_cpu_us", ""),
    ]
    return Measurement(IDENTIFIER, TITLE, [plane, nginx, hello], ratios, facts=facts)
