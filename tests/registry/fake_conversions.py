"""Conversions without converters: the runner is the boundary, everything behind it is real."""

import json
from dataclasses import replace

from django.db import transaction

from registry import services
from registry.conversion import runner
from registry.conversion.recipes import RECIPES, TRACE
from registry.conversion.report import Accuracy, Failure, Parity, ProducedFile, Report
from registry.conversion.supervision import Progress
from registry.digests import sha256_of_file
from registry.inspection import SourceInspection, TensorInfo
from registry.models import ConversionJob, JobState, Reproduction
from registry.services.conversions import queueing
from tests.factories import NOW, Clock

FOUND = SourceInspection("keras", (TensorInfo("image", (None, 32, 32, 1), "float32"),), (), 100, {})


class FakeRunner:
    """Writes one file where a real conversion would write its own, or what `makes` has for the recipe, by path. `ends`
    maps a step to a state, `during` is called with the step and the heartbeat while it "runs"."""

    def __init__(self, monkeypatch):
        self.ends, self.ran, self.given, self.makes = {}, [], {}, {}
        self.salt = b""
        self.during = lambda step, heartbeat: heartbeat(Progress("working", 40, "a line\n"))
        monkeypatch.setattr(runner, "run_trace", self._trace)
        monkeypatch.setattr(runner, "run_recipe", self._recipe)

    def _trace(self, *, trace=TRACE, source, main=None, output, on_heartbeat, **given):
        assert source.read_bytes().startswith(b"PK")
        files = {"float32.tflite" if trace == TRACE else f"{trace}.bin": trace.encode(), "trace.json": trace.encode()}
        self.given[trace] = {"main": sorted(path.name for path in main.iterdir()) if main else None, **given}
        return self._end(trace, output, files, "trace", on_heartbeat)

    def _recipe(self, *, recipe, trace, metadata=None, output, on_heartbeat, **given):
        self.given[recipe] = {
            "base": {path.name: path.read_bytes() for path in trace.iterdir()},
            "metadata": json.loads(metadata.read_text()) if metadata else None,
            **given,
        }
        files = self.makes.get(recipe) or {RECIPES[recipe].entry: recipe.encode()}
        report = self._end(recipe, output, files, "model", on_heartbeat)
        return replace(report, entry=RECIPES[recipe].entry)

    def _end(self, step, output, contents, role, heartbeat):
        self.ran.append(step)
        self.during(step, heartbeat)
        files = []
        for name, content in contents.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content + (self.salt if role == "model" else b""))
            sha256, size_bytes = sha256_of_file(path)
            files.append(ProducedFile(name, "sanity" if name == "sanity.json" else role, size_bytes, sha256))
        state = self.ends.get(step, JobState.SUCCEEDED)
        return Report(
            state=str(state),
            files=tuple(files),
            entry=next(iter(contents)),
            converter_versions={"keras": "3.15.1"},
            parity=None if role == "trace" else Parity(0.0, 0.0, 1.0, 8),
            accuracy=None if role == "trace" else Accuracy("accuracy", 0.95, 0.99, 100, 0.9, 0.98),
            error=None if state == JobState.SUCCEEDED else Failure("broken", "expected a model, got a stone"),
        )


class Queue:
    """The messages that were sent, in place of a broker."""

    def __init__(self, monkeypatch):
        self.sent = []
        monkeypatch.setattr(
            queueing,
            "send_on_commit",
            lambda work: transaction.on_commit(lambda: self.sent.append((type(work), work.pk))),
        )

    def run_one(self, clock=None):
        kind, pk = self.sent.pop(0)
        if kind is ConversionJob:
            services.run_job(job_id=pk, clock=clock or Clock())
        else:
            assert kind is Reproduction
            services.run_reproduction(reproduction_id=pk, clock=clock or Clock())

    def drain(self, clock=None):
        while self.sent:
            self.run_one(clock)


def upload(app, content=b"PK model", name="model.keras"):
    return services.receive_upload(
        application=app, chunks=[content], file_name=name, expected_sha256=None, user=None, now=NOW
    )


def register(app, *, content=b"PK model", **changes):
    options = {"source": upload(app, content), "actor": "ada", "now": NOW, **changes}
    return services.register_version(application=app, model_slug="digits", **options)


def states(version):
    return dict(version.jobs.values_list("recipe", "state"))
