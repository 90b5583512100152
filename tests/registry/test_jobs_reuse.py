"""What need not run again, versions that are built again, and variants that are proved to follow from their record."""

import pytest

from registry import errors, services
from registry.blob_store import blob_key, blob_store
from registry.models import JobState, ModelVersion, Reproduction, Variant
from registry.services.conversions import reproducing, reusing
from registry.services.lineage import lineage
from tests import factories
from tests.factories import NOW, Clock
from tests.registry.fake_conversions import register, states, upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("inspected", "runner")]
F32 = "tflite-float32"


@pytest.fixture
def first(app, queue):
    version = register(app, recipes=[F32], labels=["a"])
    queue.drain()
    return version


def again(app, queue, runner, **changes):
    runner.ran.clear()
    version = register(app, **{"recipes": [F32], "labels": ["a"], **changes})
    queue.drain()
    assert set(states(version).values()) == {"succeeded"}
    return version


def test_an_unchanged_conversion_is_taken_from_the_version_that_had_it_first(app, queue, runner, first):
    second, third = again(app, queue, runner), again(app, queue, runner)
    assert runner.ran == []
    for version in second, third:
        job = version.jobs.get(recipe=F32)
        assert job.reused_from.version == first
        assert [note for note in job.report["notes"] if "reused" in note] == [job.report["notes"][-1]]
        assert "reused from digits:1" in job.report["notes"][-1]
        variant = version.variants.get()
        assert variant.tree_digest == first.variants.get().tree_digest
        assert set(variant.files.values_list("path", flat=True)) == {"model.tflite", "labels.txt"}


@pytest.mark.parametrize(
    ("changes", "ran"),
    [
        ({"content": b"PK other"}, ["trace", F32]),
        ({"source_signature": "other"}, ["trace", F32]),
        ({"labels": ["b"]}, [F32]),
        ({"metadata": {"name": "Digits"}}, [F32]),
        ({"evaluation_set": b"PK samples"}, ["trace", F32]),
        ({"training_set": b"PK samples"}, []),
        ({"notes": "better"}, []),
    ],
)
def test_what_the_outcome_depends_on_is_in_the_key(app, queue, runner, first, changes, ran):
    for role in ("evaluation_set", "training_set"):
        if role in changes:
            changes = {role: upload(app, changes[role], "samples.npz")}
    again(app, queue, runner, **changes)
    assert runner.ran == ran


def test_other_converters_or_other_code_of_ours_run_again(app, queue, runner, first, monkeypatch):
    monkeypatch.setattr(reusing, "installed_versions", lambda _names: {"keras": "9.9"})
    again(app, queue, runner)
    assert runner.ran == ["trace", F32]
    monkeypatch.setattr(reusing, "_worker_digest", lambda: "f" * 64)
    again(app, queue, runner)
    assert runner.ran == ["trace", F32]


def test_nothing_is_taken_from_another_application(app, queue, runner, first):
    again(factories.application("other"), queue, runner)
    assert runner.ran == ["trace", F32]


def test_a_conversion_whose_bytes_are_gone_runs_again(app, queue, runner, first):
    lost = first.variants.get().files.get(path="model.tflite").artifact.sha256
    blob_store().storage.delete(blob_key(lost))
    again(app, queue, runner)
    assert runner.ran == [F32]


def test_a_failed_conversion_is_never_reused(app, queue, runner):
    runner.ends[F32] = JobState.PARITY_MISSED
    register(app, recipes=[F32])
    queue.drain()
    runner.ends.clear()
    again(app, queue, runner, labels=[])
    assert runner.ran == [F32]


def test_a_version_is_rebuilt_as_a_new_one_from_the_same_source(app, queue, runner, first, monkeypatch):
    runner.ran.clear()
    same = services.rebuild_version(version=first, actor="grace", now=NOW)
    queue.drain()
    assert (same.number, same.rebuilt_from, same.source, same.labels) == (2, first, first.source, ["a"])
    assert (runner.ran, states(same)) == ([], states(first))
    monkeypatch.setattr(reusing, "installed_versions", lambda _names: {"keras": "9.9"})
    runner.salt = b" by newer converters"
    other = services.rebuild_version(version=first, actor="grace", now=NOW)
    queue.drain()
    assert runner.ran == ["trace", F32]
    assert other.variants.get().tree_digest != first.variants.get().tree_digest
    services.yank_version(version=first, reason="x", actor="ada", now=NOW)
    first.refresh_from_db()
    with pytest.raises(errors.VersionYanked):
        services.rebuild_version(version=first, actor="grace", now=NOW)


def reproduce(first, queue, clock=None):
    made = services.request_reproduction(variant=first.variants.get(), actor="ada", now=NOW)
    with pytest.raises(errors.ReproductionRunning):
        services.request_reproduction(variant=first.variants.get(), actor="ada", now=NOW)
    queue.drain(clock)
    made.refresh_from_db()
    return made


def test_a_variant_is_built_again_from_its_source_and_equal(queue, runner, first):
    runner.ran.clear()
    made = reproduce(first, queue)
    assert runner.ran == ["trace", F32]
    assert made.state == "equal", made.detail
    assert [(file["path"], file["is_equal"]) for file in made.files] == [("labels.txt", True), ("model.tflite", True)]
    assert made.converter_versions == {}


def test_a_difference_names_the_file_and_the_converters_that_differ(queue, runner, first, monkeypatch):
    runner.salt = b" otherwise"
    recorded = reproducing.recorded_versions
    monkeypatch.setattr(reproducing, "recorded_versions", lambda variant: recorded(variant) | {"keras": "3.0"})
    made = reproduce(first, queue)
    assert made.state == "different"
    assert [file["path"] for file in made.files if not file["is_equal"]] == ["model.tflite"]
    assert made.converter_versions == {"keras": {"then": "3.0", "now": "3.15.1"}}
    assert Variant.objects.count() == 1


def test_a_second_build_that_fails_says_at_which_step(queue, runner, first):
    runner.ends["trace"] = JobState.CRASHED
    made = reproduce(first, queue)
    assert (made.state, "got a stone" in made.detail) == ("failed", True)


def test_a_second_build_whose_workers_die_ends(queue, runner, first):
    made = services.request_reproduction(variant=first.variants.get(), actor="ada", now=NOW)
    clock = Clock()
    for _ in range(Reproduction.MAX_ATTEMPTS):
        assert Reproduction.objects.get(pk=made.pk).claim(clock())
        services.sweep_lost_jobs(now=clock.advance(seconds=31))
    made.refresh_from_db()
    assert (made.state, "lost 3 times" in made.detail) == ("failed", True)


def test_the_lineage_names_all_that_a_second_build_needs(app, queue, first):
    found = lineage(first.variants.get())
    assert found["source_sha256"] == first.source.sha256
    assert [step["trace"] for step in found["traces"]] == ["trace"]
    assert found["metadata_sha256"]
    assert found["reused_from"] is None
    second = register(app, recipes=[F32], labels=["a"])
    queue.drain()
    assert lineage(second.variants.get())["reused_from"] == "digits:1"
    assert ModelVersion.objects.count() == 2
