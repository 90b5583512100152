"""What P8 times, on the PostgreSQL and the event stream that the environment names: a JSON line for each round."""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import django

django.setup()

from django.conf import settings  # noqa: E402  # after setup, as all of Django's models
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from redis import Redis  # noqa: E402

from experiments import ingest, partitions  # noqa: E402
from experiments.ingest.rows import COLUMNS  # noqa: E402
from experiments.models import Arm, DeviceEvent, Experiment, Exposure, Layer, Phase  # noqa: E402
from registry.models import DeviceClass, RegisteredModel  # noqa: E402
from registry.services import create_application  # noqa: E402

EVENTS, PER_BATCH = 50_000, 100
STAGES = ("assigned", "offered", "download", "verify", "unpack", "compile", "sanity", "activate", "first_inference")
NAMES = ", ".join(COLUMNS)


def main(rounds: int) -> None:
    call_command("migrate", verbosity=0, interactive=False)
    partitions.make_ahead(datetime.now(UTC))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE reference_event (LIKE experiments_event INCLUDING ALL)")
        cursor.execute("CREATE UNIQUE INDEX ON reference_event (event_id)")
    with_experiment()
    stream = Redis.from_url(str(settings.EVENT_STREAM_URL))
    for number in range(rounds + 1):
        loads = {"no experiment": "other", "one experiment": "digits"}
        rates = {load: ingested(stream, model) for load, model in loads.items()}
        rates["copy"] = copied()
        if number:  # the first one warms up
            sys.stdout.write(json.dumps({**rates, "events": EVENTS}) + "\n")
            sys.stdout.flush()


def with_experiment() -> None:
    """Of the embedded model in both arms: every device can take part."""
    now = datetime.now(UTC) - timedelta(hours=1)
    application = create_application(slug="demo", name="Demo", actor="bench", now=now)
    DeviceClass.objects.get_or_create(application=application, name="all", defaults={"position": 99, "variants": ["a"]})
    model = RegisteredModel.objects.create(application=application, slug="digits", name="digits", created_at=now)
    channel = application.channels.first()
    layer = Layer.objects.create(channel=channel, model=model)
    experiment = Experiment.objects.create(
        application=application, channel=channel, model=model, slug="first", kind="aa", layer=layer, created_by="bench",
        created_at=now, state="running",
    )  # fmt: skip
    phase = Phase.objects.create(
        experiment=experiment, number=1, cause="start", percent_bp=10_000, seed=1, layer_salt=layer.salt, layer_first=0,
        layer_end=10_000, arm_salt=experiment.arm_salt, opened_by="bench", opened_at=now,
    )  # fmt: skip
    for name, span in (("treatment", [0, 5000]), ("control", [5000, 10_000])):
        Arm.objects.create(phase=phase, name=name, is_control=name == "control", ranges=[span])


def ingested(stream: Redis, model: str) -> float:
    """Events per second from the stream into the tables, acknowledged. Every one is there once."""
    clear()
    stream.flushdb()
    fill(stream, model)
    ingester = ingest.Ingester(stream)
    ingester.prepare()
    started = time.perf_counter()
    done = 0
    while done < EVENTS // PER_BATCH:
        done += ingester.step()
    seconds = time.perf_counter() - started
    stored = DeviceEvent.objects.values("event_id").distinct().count()
    units = Exposure.objects.count()
    if (stored, DeviceEvent.objects.count(), stream.xlen(ingest.STREAM)) != (EVENTS, EVENTS, 0):
        raise ValueError(f"expected {EVENTS} events once and an empty stream, got {stored}")
    if units != (EVENTS // PER_BATCH if model == "digits" else 0):
        raise ValueError(f"expected a unit for each batch of the experiment, got {units}")
    return EVENTS / seconds


def fill(stream: Redis, model: str) -> None:
    """Batches as the device plane leaves them: one phone each, all stages, some with a histogram."""
    now = datetime.now(UTC)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    profile = {"os": "android", "os_version": "15", "app_version": "3.1", "runtime": "litert", "ram_mb": 8000}
    for _ in range(EVENTS // PER_BATCH):
        events = [
            {"id": str(uuid.uuid4()), "at": stamp, "stage": stage, "outcome": "ok", "model": model, "ms": number}
            for number, stage in enumerate((*STAGES, *["inference"] * (PER_BATCH - len(STAGES))))
        ]
        events[-1]["histogram"] = [number % 7 for number in range(64)]
        batch = json.dumps({"sent_at": stamp, "profile": profile, "events": events})
        fields = {"application": "demo", "unit": str(uuid.uuid4()), "received_at": now.isoformat(), "batch": batch}
        stream.xadd(ingest.STREAM, fields)


def copied() -> float:
    """Rows per second of the rows that were ingested last, by one COPY into the reference table."""
    text = io.StringIO()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reference_event")
        cursor.copy_expert(f"COPY (SELECT {NAMES} FROM experiments_event) TO STDOUT", text)  # noqa: S608  # constants
        text.seek(0)
        started = time.perf_counter()
        cursor.copy_expert(f"COPY reference_event ({NAMES}) FROM STDIN", text)
        return EVENTS / (time.perf_counter() - started)


def clear() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE experiments_event, experiments_seenevent, experiments_exposure")


if __name__ == "__main__":
    main(int(sys.argv[1]))
