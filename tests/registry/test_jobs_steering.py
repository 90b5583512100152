"""Cancelling, retrying, and workers that die meanwhile: a job never runs for ever, a variant never lacks its report."""

import pytest

from registry import errors, services
from registry.conversion.supervision import Progress
from registry.models import AuditEntry, ConversionJob, JobState, Variant
from registry.services.conversions import building, reusing, running
from tests.factories import NOW, Clock
from tests.registry.fake_conversions import register, states

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("inspected", "runner")]
F32, F16 = "tflite-float32", "tflite-float16"


@pytest.fixture
def version(app):
    return register(app, recipes=[F32, F16])


def cancel(version, recipe):
    services.cancel_job(job=version.jobs.get(recipe=recipe), actor="ada", now=NOW)


def retry(version, recipe):
    services.retry_job(job=version.jobs.get(recipe=recipe), actor="ada", now=NOW)


def test_a_waiting_job_is_cancelled_at_once_and_only_it(queue, version):
    cancel(version, F16)
    queue.drain()
    assert states(version) == {"trace": "succeeded", F32: "succeeded", F16: "cancelled"}
    assert AuditEntry.objects.first().before == {"state": "waiting"}
    with pytest.raises(errors.JobFinished):
        cancel(version, F16)


def test_a_cancelled_trace_cancels_what_waits_and_retry_brings_all_back(queue, runner, version):
    cancel(version, "trace")
    assert set(states(version).values()) == {"cancelled"}
    queue.drain()
    assert runner.ran == []
    retry(version, F32)
    assert states(version) == {"trace": "queued", F32: "waiting", F16: "waiting"}
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}


def test_a_running_job_is_stopped_at_its_next_beat(queue, runner, version):
    beats = []

    def during(step, heartbeat):
        heartbeat(Progress())
        if step == "trace":
            cancel(version, "trace")
            assert states(version)["trace"] == "running"
        beats.append(step)
        heartbeat(Progress())
        beats.append(f"{step} went on")

    runner.during = during
    queue.drain()
    assert beats == ["trace"]
    assert set(states(version).values()) == {"cancelled"}
    assert not Variant.objects.exists()


def test_a_job_that_ends_between_the_request_and_its_next_beat_is_cancelled_too(queue, runner, version):
    runner.during = lambda step, _heartbeat: cancel(version, step) if step == F32 else None
    queue.drain()
    assert states(version) == {"trace": "succeeded", F32: "cancelled", F16: "succeeded"}
    assert list(Variant.objects.values_list("name", flat=True)) == [F16]


def test_a_lost_job_whose_cancelling_was_asked_for_is_not_queued_again(queue, version):
    trace = version.jobs.get(recipe="trace")
    assert trace.claim(NOW)
    cancel(version, "trace")
    clock = Clock()
    services.sweep_lost_jobs(now=clock.advance(seconds=31))
    assert set(states(version).values()) == {"cancelled"}


def test_a_whole_version_is_cancelled(queue, runner, version):
    queue.run_one()
    assert version.jobs.get(recipe=F32).claim(NOW)
    services.cancel_version(version=version, actor="ada", now=NOW)
    assert states(version) == {"trace": "succeeded", F32: "running", F16: "cancelled"}
    assert version.jobs.get(recipe=F32).cancel_requested_at == NOW
    services.sweep_lost_jobs(now=Clock().advance(seconds=31))
    with pytest.raises(errors.JobFinished):
        services.cancel_version(version=version, actor="ada", now=NOW)


def test_retrying_a_failed_trace_brings_back_what_failed_because_of_it(queue, runner, version):
    runner.ends["trace"] = JobState.OUT_OF_MEMORY
    queue.drain()
    runner.ends.clear()
    retry(version, "trace")
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}


def test_retrying_a_trace_leaves_alone_what_failed_by_itself(queue, runner, version):
    runner.ends |= {F32: JobState.PARITY_MISSED}
    queue.drain()
    retry(version, F32)
    runner.ends.clear()
    assert states(version) == {"trace": "succeeded", F32: "queued", F16: "succeeded"}
    job = version.jobs.get(recipe=F32)
    assert (job.attempts, job.report, job.finished_at) == (0, {}, None)
    queue.drain()
    assert states(version)[F32] == "succeeded"


@pytest.mark.parametrize("recipe", ["trace", F32])
def test_what_is_open_or_succeeded_is_not_retried(queue, version, recipe):
    with pytest.raises(errors.JobNotRetryable):
        retry(version, recipe)
    queue.drain()
    with pytest.raises(errors.JobNotRetryable):
        retry(version, recipe)


class Killed(BaseException):
    """The worker dies here: nothing of it runs on."""


POINTS = {
    "claimed": (running, "_run"),
    "looking for an earlier one": (reusing, "earlier_with"),
    "fetching": (building.Bench, "base_folder"),
    "running": (building.runner, "run_recipe"),
    "keeping files": (running, "_keep_files"),
    "before the end is written": (ConversionJob, "finish"),
    "after the end, before the variant": (running, "_create_variant"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_anywhere_leaves_a_job_that_runs_again(queue, runner, version, monkeypatch, point):
    version.jobs.filter(recipe=F16).delete()
    queue.run_one()
    owner, name = POINTS[point]

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, die)
        with pytest.raises(Killed):
            queue.run_one()
    assert states(version)[F32] == "running"
    assert not Variant.objects.exists()
    clock = Clock()
    services.sweep_lost_jobs(now=clock.advance(seconds=31))
    queue.drain(clock)
    variant = Variant.objects.get()
    assert (states(version)[F32], variant.report["state"], variant.files.count()) == ("succeeded", "succeeded", 1)


def test_a_lost_message_is_sent_again_for_any_queued_row(queue, version):
    queue.sent.clear()
    assert services.sweep_lost_jobs(now=Clock().advance(seconds=61)) == 1
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}


def test_workspaces_go_with_cancelled_jobs(queue, runner, version, settings):
    runner.during = lambda step, _: cancel(version, step)
    queue.drain()
    assert not list(settings.AEROGRAM_WORKSPACE_DIR.iterdir())
