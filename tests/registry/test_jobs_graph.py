"""The graph of a version's jobs: traces, what starts from them, and how far each is."""

import pytest

from registry import errors, services
from registry.conversion.supervision import Progress
from registry.models import AuditEntry, ConversionJob, JobState
from registry.services.conversions import running
from registry.services.matrix import matrix
from tests import factories
from tests.factories import NOW, Clock
from tests.registry.fake_conversions import register, states

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("inspected", "runner")]
F32, ONNX = "tflite-float32", "onnx-float32"


@pytest.fixture(autouse=True)
def _all_extras(monkeypatch):
    monkeypatch.setattr(running, "missing_extras", dict)


def test_a_recipe_waits_for_its_own_trace_which_waits_for_the_main_one(app, queue, runner):
    version = register(app, recipes=[F32, ONNX])
    assert states(version) == {"trace": "queued", "trace-onnx": "waiting", F32: "waiting", ONNX: "waiting"}
    queue.run_one()
    assert states(version) == {"trace": "succeeded", "trace-onnx": "queued", F32: "queued", ONNX: "waiting"}
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}
    assert runner.given["trace-onnx"]["main"] == ["float32.tflite", "trace.json"]


def test_a_recipe_gets_the_main_traces_files_with_its_bases_laid_over_them(app, queue, runner):
    register(app, recipes=[F32, ONNX])
    queue.drain()
    assert runner.given[F32]["base"] == {"float32.tflite": b"trace", "trace.json": b"trace"}
    assert runner.given[ONNX]["base"] == {
        "float32.tflite": b"trace",
        "trace.json": b"trace-onnx",
        "trace-onnx.bin": b"trace-onnx",
    }


def test_a_trace_that_fails_fails_what_starts_from_it_and_nothing_else(app, queue, runner):
    runner.ends["trace-onnx"] = JobState.CRASHED
    version = register(app, recipes=[F32, ONNX])
    queue.drain()
    assert states(version) == {"trace": "succeeded", "trace-onnx": "crashed", F32: "succeeded", ONNX: "failed"}
    assert "got a stone" in version.jobs.get(recipe=ONNX).report["error"]["detail"]


def test_the_main_trace_takes_everything_along(app, queue, runner):
    runner.ends["trace"] = JobState.TIMED_OUT
    version = register(app, recipes=[F32, ONNX])
    queue.drain()
    assert states(version) == {"trace": "timed_out", "trace-onnx": "failed", F32: "failed", ONNX: "failed"}


def test_a_recipe_of_an_extra_that_the_worker_lacks_does_not_apply(app, queue, runner, monkeypatch):
    monkeypatch.setattr(running, "missing_extras", lambda: {"onnx": "needs the extra `onnx`"})
    version = register(app, recipes=[F32, ONNX])
    queue.drain()
    assert states(version) | {} == {
        "trace": "succeeded",
        "trace-onnx": "not_applicable",
        F32: "succeeded",
        ONNX: "not_applicable",
    }
    assert "extra `onnx`" in version.jobs.get(recipe=ONNX).report["error"]["detail"]
    monkeypatch.setattr(running, "missing_extras", dict)
    services.request_recipes(version=version, recipes=[ONNX], actor="ada", now=NOW)
    queue.drain()
    assert states(version)[ONNX] == "succeeded"


def test_the_row_tells_how_far_a_running_job_is_and_forgets_it_at_the_end(app, queue, runner):
    version = register(app, recipes=[F32])
    seen = []

    def during(step, heartbeat):
        heartbeat(Progress("calibrating", 40, "x" * 9_000 + "last line"))
        row = next(row for row in matrix(version) if row.recipe == step)
        seen.append((row.recipe, row.step, row.percent, row.log_tail[-9:], len(row.log_tail)))

    runner.during = during
    queue.drain()
    assert seen == [("trace", "calibrating", 40, "last line", 4_000), (F32, "calibrating", 40, "last line", 4_000)]
    job = version.jobs.get(recipe=F32)
    assert (job.progress, job.log_tail) == ({}, "")


def test_the_worker_takes_the_highest_priority_of_its_queue_whatever_the_message_names(app, queue, runner):
    version = register(app, recipes=[F32, "tflite-float16", "tflite-dynamic-int8"])
    queue.run_one()
    services.prioritise_job(job=version.jobs.get(recipe="tflite-dynamic-int8"), priority=5, actor="ada", now=NOW)
    services.prioritise_job(job=version.jobs.get(recipe=F32), priority=-5, actor="ada", now=NOW)
    queue.drain()
    assert runner.ran == ["trace", "tflite-dynamic-int8", "tflite-float16", F32]
    with pytest.raises(errors.JobFinished):
        services.prioritise_job(job=version.jobs.get(recipe=F32), priority=1, actor="ada", now=NOW)
    with pytest.raises(errors.Invalid, match="-10 to 10"):
        services.prioritise_job(job=version.jobs.get(recipe=F32), priority=11, actor="ada", now=NOW)


def test_a_light_worker_never_takes_a_trace_nor_the_heavy_one_a_recipe(app, queue, runner):
    first = register(app, recipes=[F32])
    queue.run_one()
    second = register(app, content=b"PK other", recipes=[F32])
    services.run_job(job_id=first.jobs.get(recipe=F32).pk, clock=Clock())
    assert (states(first)[F32], states(second)["trace"]) == ("succeeded", "queued")
    services.run_job(job_id=second.jobs.get(recipe="trace").pk, clock=Clock())
    assert states(second) == {"trace": "succeeded", F32: "queued"}


@pytest.mark.parametrize(
    ("recipe", "source_format", "queue_name"),
    [
        ("trace", "keras", "convert"),
        ("trace", "saved_model", "convert"),
        ("trace", "tflite", "light"),
        ("trace", "coreml", "light"),
        ("trace", "onnx", "light"),
        ("trace-onnx", "keras", "convert"),
        (F32, "keras", "light"),
    ],
)
def test_the_queue_follows_from_the_step_in_rows_as_in_messages(app, recipe, source_format, queue_name):
    job = factories.job(factories.version(app), recipe)
    job.version.source_format = source_format
    assert job.queue == queue_name


def test_rows_are_found_by_the_queue_that_they_say(app):
    version = factories.version(app)
    jobs = [factories.job(version, recipe) for recipe in ("trace", "trace-onnx", F32)]
    for name in ("convert", "light"):
        found = set(ConversionJob.objects.in_queue(name))
        assert found == {job for job in jobs if job.queue == name}


def test_further_recipes_start_at_once_where_their_trace_is_there(app, queue, runner):
    version = register(app, recipes=[F32])
    queue.drain()
    services.request_recipes(version=version, recipes=[F32, "tflite-float16", ONNX], actor="ada", now=NOW)
    assert states(version) | {F32: "succeeded"} == {
        "trace": "succeeded",
        "trace-onnx": "queued",
        F32: "succeeded",
        "tflite-float16": "queued",
        ONNX: "waiting",
    }
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}
    assert runner.ran.count(F32) == 1
    assert AuditEntry.objects.first().after == {"recipes": ["tflite-float16", ONNX]}
    with pytest.raises(errors.RecipesRequested):
        services.request_recipes(version=version, recipes=[F32], actor="ada", now=NOW)


def test_further_recipes_of_a_failed_trace_say_so_and_a_yanked_version_gets_none(app, queue, runner):
    runner.ends["trace"] = JobState.FAILED
    version = register(app, recipes=[F32])
    queue.drain()
    services.request_recipes(version=version, recipes=["tflite-float16"], actor="ada", now=NOW)
    assert version.jobs.get(recipe="tflite-float16").report["error"]["code"] == "trace_failed"
    services.yank_version(version=version, reason="x", actor="ada", now=NOW)
    version.refresh_from_db()
    with pytest.raises(errors.VersionYanked):
        services.request_recipes(version=version, recipes=["coreml-fp16"], actor="ada", now=NOW)


def test_metadata_and_labels_reach_the_recipe_and_wrong_ones_are_refused(app, queue, runner):
    register(app, recipes=[F32], labels=["a", "b"], metadata={"name": "Digits"})
    queue.drain()
    assert runner.given[F32]["metadata"] == {"name": "Digits", "labels": ["a", "b"]}
    with pytest.raises(errors.MetadataRefused, match="colour"):
        register(app, metadata={"colour": "red"})
