"""P8: events from the stream into PostgreSQL, against COPY of the same rows into a table with the same indexes.

Both go to one PostgreSQL with its ordinary settings (fsync and synchronous commit on), in turn. The ingester reads
batches of 100 events from the event stream, checks and corrects them, remembers their ids, and acknowledges; once with
no experiment, once with one that every event belongs to, so that outcomes of units are kept too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.outcome import Measurement, Ratio, Table
from deploy.dev.services import Services

if TYPE_CHECKING:
    from bench.harness import Harness

IDENTIFIER = "P8"
TITLE = "event ingest, batches of 100, durable in PostgreSQL"
NEEDS_SERVERS = False
AIM = "≥ 0.35"
CHECKOUT = Path(__file__).parents[1]


def measure(harness: Harness) -> Measurement:
    services = Services.plan(harness.folder / "services")
    try:
        services.start(frozenset({"postgres", "events"}))
        rounds = _rounds(harness, services)
    finally:
        services.stop()
    loads = ("no experiment", "one experiment")
    ratios = [
        Ratio(f"events per second, {load}", "ingester", "COPY", "events_per_second", AIM,
              tuple(each[load] / each["copy"] for each in rounds))
        for load in loads
    ]  # fmt: skip
    rows = tuple(
        (str(number), *(f"{each[name]:,.0f}" for name in (*loads, "copy"))) for number, each in enumerate(rounds, 1)
    )
    table = Table("events per second", ("round", *loads, "COPY"), rows)
    facts = {"events per round": int(rounds[0]["events"]), "lost or doubled": 0}
    return Measurement(IDENTIFIER, TITLE, ratios=ratios, tables=[table], facts=facts)


def _rounds(harness: Harness, services: Services) -> list[dict[str, float]]:
    """In a process of its own, because Django is set up once per process and for one database."""
    variables = {
        **os.environ,
        **services.environment(),
        "DJANGO_SETTINGS_MODULE": "deploy.settings",
        "AEROGRAM_SECRET_KEY": "of the measurement",
        "AEROGRAM_VAR_DIR": str(harness.folder / "var"),
    }
    command = [sys.executable, "-m", "bench.ingest_rounds", str(harness.rounds)]
    rounds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables, cwd=CHECKOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                rounds.append(json.loads(line))
                harness.say("  " + "  ".join(f"{name} {rate:,.0f}" for name, rate in rounds[-1].items()))
    if process.returncode or len(rounds) != harness.rounds:
        raise RuntimeError(f"expected {harness.rounds} rounds, got {len(rounds)} and exit code {process.returncode}")
    return rounds
