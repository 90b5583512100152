"""A running experiment as rows, the units that fall into its arms, and what they report."""

import json
import uuid
from datetime import timedelta
from itertools import count

from experiments import ingest
from experiments.bucketing import bucket, in_range
from experiments.models import Arm, Experiment, Layer, Phase
from experiments.ramps import Share, ranges_at
from registry.device_classes import with_all_soc_names
from registry.models import Application, Channel, DeviceClass, RegisteredModel
from tests import factories
from tests.factories import NOW

CLASSES = ("high", "low")
PROFILES = {
    "high": {"os": "android", "ram_mb": 8000},
    "low": {"os": "android", "ram_mb": 2000},
    "foreign": {"os": "android", "ram_mb": 8000, "runtime": "coreml"},
}


def experiment(percent_bp=5000, *, slug="first", kind="rollout", on="production", **said):
    """Version 2 against version 1 of `digits`, running since NOW, in classes `high` and `low`."""
    app = Application.objects.filter(slug="demo").first() or factories.application()
    if not RegisteredModel.objects.filter(application=app).exists():
        factories.converted_version(app)
        factories.converted_version(app)
        app.device_classes.all().delete()
        for position, name in enumerate(CLASSES):
            selector = {"ram_mb_min": 4000} if name == "high" else {}
            DeviceClass.objects.create(
                application=app, name=name, position=position, selector=selector, variants=["tflite-float32"]
            )
    model = RegisteredModel.objects.get(application=app)
    channel, _ = Channel.objects.get_or_create(application=app, slug=on, defaults={"created_at": NOW})
    layer, _ = Layer.objects.get_or_create(channel=channel, model=model)
    of = Experiment.objects.create(
        application=app, channel=channel, model=model, slug=slug, kind=kind, layer=layer, created_by="ada",
        created_at=NOW, state="running", started_at=NOW, step_position=0, step_since=NOW,
        arms=[{"name": "treatment", "version": 2, "control": False, "share_bp": 5000},
              {"name": "control", "version": 1, "control": True, "share_bp": 5000}], **said,
    )  # fmt: skip
    of.steps.create(position=0, percent_bp=percent_bp)
    phase(of, percent_bp, NOW)
    return of


def phase(of, percent_bp, now):
    """Close the open phase and open one at another percentage."""
    of.phases.filter(closed_at=None).update(closed_at=now)
    versions = {row.number: row for row in of.model.versions.all()}
    row = Phase.objects.create(
        experiment=of, number=of.phases.count() + 1, cause="ramp", percent_bp=percent_bp, step_position=0, seed=of.seed,
        layer_salt=of.layer.salt, layer_first=of.layer_first, layer_end=of.layer_end, arm_salt=of.arm_salt,
        eligibility={"versions": {str(number): ["tflite-float32"] for number in versions},
                     "device_classes": {name: ["tflite-float32"] for name in CLASSES}, **class_rules(of)},
        opened_by="ada", opened_at=now,
    )  # fmt: skip
    shares = [Share(arm["name"], arm["share_bp"], arm["control"]) for arm in of.arms]
    ranges = ranges_at(of.kind, shares, percent_bp)
    for arm in of.arms:
        spans = [list(span) for span in ranges[arm["name"]]]
        Arm.objects.create(
            phase=row, name=arm["name"], model_version=versions[arm["version"]], is_control=arm["control"], ranges=spans
        )
    return row


def class_rules(of):
    """What a phase keeps of the classes; phases of earlier releases have none of it."""
    return {
        "class_rules": [with_all_soc_names(rule.as_rule()).to_json() for rule in of.application.device_classes.all()]
    }


def units(of, arm, number):
    """The first `number` units `u0`, `u1`, … that the open phase puts into `arm`."""
    row = of.phase
    spans = row.arms.get(name=arm).ranges
    found = []
    for index in count():
        unit = f"u{index}"
        if not in_range(bucket(unit, row.layer_salt), (row.layer_first, row.layer_end)):
            continue
        if any(in_range(bucket(unit, row.arm_salt), tuple(span)) for span in spans):
            found.append(unit)
        if len(found) == number:
            return found
    raise AssertionError


def event(stage, outcome="ok", at=NOW + timedelta(hours=1), **members):
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {"id": str(uuid.uuid4()), "at": stamp, "stage": stage, "outcome": outcome, "model": "digits", **members}
    return {name: value for name, value in said.items() if value is not None}


def report(stream, unit, *events, profile="high", received_at=NOW + timedelta(hours=2), **members):
    """One batch, as the device plane leaves it in the stream. `members`: further ones of the batch."""
    sent_at = received_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    batch = {"sent_at": sent_at, "profile": PROFILES[profile], "events": list(events), **members}
    fields = {"application": "demo", "unit": unit, "received_at": received_at.isoformat(), "batch": json.dumps(batch)}
    stream.xadd(ingest.STREAM, fields)


def passed(version, *stages, **members):
    return [event(stage, version=version, **members) for stage in stages]
