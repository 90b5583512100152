"""Registering, converting and yanking, on a real database and a real store; the conversion itself is faked."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from experiments.eligibility import choose_variant
from registry import errors, services
from registry.blob_store import blob_store
from registry.conversion import runner as runner_module
from registry.conversion.report import Failure, ProducedFile, Report
from registry.conversion.supervision import Progress
from registry.device_classes import DeviceProfile, match
from registry.digests import sha256_of_file
from registry.inspection import SourceInspection, TensorInfo
from registry.models import Artifact, AuditEntry, ConversionJob, JobState, ModelVersion, Role, Upload
from registry.services import versions
from registry.services.conversions import queueing
from tests import factories
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
IMAGE = TensorInfo("image", (None, 32, 32, 1), "float32")


@pytest.fixture
def app(services):
    return factories.application()


@pytest.fixture
def queued(monkeypatch):
    """Ids of jobs that were sent to the queue, in place of a broker."""
    sent = []
    monkeypatch.setattr(queueing, "send_on_commit", lambda job: transaction.on_commit(lambda: sent.append(job.pk)))
    return sent


@pytest.fixture
def inspected(monkeypatch):
    found = SourceInspection("keras", (IMAGE,), (), 100, {})
    monkeypatch.setattr(versions.inspection, "inspect_source", lambda _path, _name: found)
    monkeypatch.setattr(versions.inspection, "inspect_evaluation_set", lambda _path: {})
    return found


class FakeRunner:
    """The boundary: writes one file where a real conversion would write its own."""

    def __init__(self, monkeypatch, state=JobState.SUCCEEDED):
        self.state = state
        self.during = lambda heartbeat: heartbeat(Progress())
        monkeypatch.setattr(runner_module, "run_trace", self._trace)
        monkeypatch.setattr(runner_module, "run_recipe", self._recipe)

    def _trace(self, *, source, output, on_heartbeat, **_):
        assert source.read_bytes().startswith(b"PK")
        return self._end(output / "float32.tflite", "trace", b"traced", on_heartbeat)

    def _recipe(self, *, recipe, trace, output, on_heartbeat, **_):
        assert (trace / "float32.tflite").read_bytes() == b"traced"
        return self._end(output / "model.tflite", "model", recipe.encode(), on_heartbeat)

    def _end(self, path, role, content, on_heartbeat):
        self.during(on_heartbeat)
        path.write_bytes(content)
        sha256, size_bytes = sha256_of_file(path)
        files = (ProducedFile(path.name, role, size_bytes, sha256),)
        failure = None if self.state == JobState.SUCCEEDED else Failure("broken", "expected a model, got a stone")
        return Report(state=self.state, files=files, entry=path.name, error=failure)


@pytest.fixture
def runner(monkeypatch):
    return FakeRunner(monkeypatch)


def upload(app, content=b"PK model", name="model.keras", **changes):
    options = {"file_name": name, "expected_sha256": None, "user": None, "now": NOW, **changes}
    return services.receive_upload(application=app, chunks=[content], **options)


def register(app, **changes):
    options = {"source": upload(app), "actor": "ada", "now": NOW, **changes}
    return services.register_version(application=app, model_slug="digits", **options)


def finish_all(queued, clock=None):
    while queued:
        services.run_job(job_id=queued.pop(0), clock=clock or Clock())


def test_the_same_bytes_are_kept_once(app):
    first, second = upload(app), upload(app, name="again.keras")
    assert first.artifact == second.artifact
    assert Artifact.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "changes", "error"),
    [
        (b"", {}, errors.UploadEmpty),
        (b"abc", {"expected_sha256": "0" * 64}, errors.UploadDigestMismatch),
        (b"x" * 2_000_000, {}, errors.UploadTooLarge),
    ],
)
def test_a_refused_upload_leaves_nothing(app, settings, own_store, content, changes, error):
    settings.AEROGRAM_MAX_UPLOAD_BYTES = 1_000_000
    with pytest.raises(error, match="expected"):
        upload(app, content, **changes)
    assert not Upload.objects.exists()
    assert not [path for path in own_store.rglob("*") if path.is_file()]


def test_versions_are_numbered_per_model_and_planned(app, queued, inspected):
    first, second = register(app), register(app)
    assert (first.number, second.number) == (1, 2)
    states = dict(first.jobs.values_list("recipe", "state"))
    assert states["trace"] == JobState.QUEUED
    assert states["tflite-float32"] == JobState.WAITING
    assert states["tflite-full-int8"] == JobState.NOT_APPLICABLE
    assert len(queued) == 2


def test_a_source_that_inspection_refuses_registers_nothing(app, queued):
    with pytest.raises(errors.SourceRefused, match=r"model\.keras"):
        register(app)
    assert not ModelVersion.objects.exists()


def test_unknown_recipes_are_named_and_nothing_is_kept(app, queued, inspected):
    with pytest.raises(errors.UnknownRecipe, match="tflite-int3"):
        register(app, recipes=["tflite-int3"])
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("column", ["number", "source_format", "registered_by", "notes"])
def test_a_registered_version_does_not_change(app, column):
    version = factories.version(app)
    with pytest.raises(DatabaseError, match="does not change"), transaction.atomic():
        ModelVersion.objects.filter(pk=version.pk).update(**{column: 7})


def test_artifacts_variants_and_the_log_do_not_change(app):
    variant = factories.variant(factories.version(app))
    for row in (variant, variant.files.first(), variant.files.first().artifact, AuditEntry.objects.first()):
        field = "reason" if isinstance(row, AuditEntry) else "id"
        with pytest.raises(DatabaseError, match="does not change"), transaction.atomic():
            type(row).objects.filter(pk=row.pk).update(**{field: 999})
    with pytest.raises(DatabaseError, match="does not change"), transaction.atomic():
        AuditEntry.objects.all().delete()


def test_a_yank_is_the_one_change_and_happens_once(app):
    version = factories.version(app)
    services.yank_version(version=version, reason="wrong labels", actor="ada", now=NOW)
    with pytest.raises(errors.VersionYanked):
        services.yank_version(version=version, reason="again", actor="ada", now=NOW)


def test_a_push_ends_in_variants_with_their_labels(app, queued, inspected, runner):
    version = register(app, labels=["zero", "one"])
    finish_all(queued)
    variant = version.variants.get(name="tflite-float32")
    assert set(variant.files.values_list("path", flat=True)) == {"model.tflite", "labels.txt"}
    with blob_store().open(variant.files.get(path="labels.txt").artifact.sha256) as stream:
        assert stream.read() == b"zero\none\n"
    assert not version.jobs.unfinished().exists()


def test_a_failed_trace_fails_what_waited_for_it(app, queued, inspected, runner):
    runner.state = JobState.CRASHED
    version = register(app)
    finish_all(queued)
    job = version.jobs.get(recipe="tflite-float32")
    assert job.state == JobState.FAILED
    assert "got a stone" in job.report["error"]["detail"]
    assert not version.variants.exists()


def test_a_job_is_run_once_however_often_its_message_comes(app, queued, inspected, runner):
    version = register(app)
    trace = version.jobs.get(recipe="trace")
    for _ in range(3):
        services.run_job(job_id=trace.pk, clock=Clock())
    trace.refresh_from_db()
    assert (trace.attempts, trace.state) == (1, JobState.SUCCEEDED)


def lose_worker(runner, clock):
    """The worker is silent, the sweep gives its job away, then it wakes up."""

    def during(heartbeat):
        runner.during = lambda again: again(Progress())
        clock.advance(seconds=31)
        services.sweep_lost_jobs(now=clock())
        heartbeat(Progress())

    runner.during = during


def test_a_worker_that_lost_its_lease_stops_and_writes_nothing(app, queued, inspected, runner):
    version = register(app)
    trace = version.jobs.get(recipe="trace")
    clock = Clock()
    lose_worker(runner, clock)
    services.run_job(job_id=trace.pk, clock=clock)
    trace.refresh_from_db()
    assert (trace.state, trace.attempts, trace.report) == (JobState.QUEUED, 1, {})
    finish_all(queued, clock)
    trace.refresh_from_db()
    assert (trace.state, trace.attempts) == (JobState.SUCCEEDED, 2)


def test_a_job_whose_worker_dies_again_and_again_ends_crashed(app, queued, inspected):
    version = register(app)
    trace = version.jobs.get(recipe="trace")
    clock = Clock()
    for _ in range(ConversionJob.MAX_ATTEMPTS):
        assert ConversionJob.objects.get(pk=trace.pk).claim(clock())
        services.sweep_lost_jobs(now=clock.advance(seconds=31))
    trace.refresh_from_db()
    assert trace.state == JobState.CRASHED
    assert trace.report["error"]["code"] == "worker_lost"
    assert not version.jobs.unfinished().exists()


def test_a_heartbeat_keeps_the_lease(app):
    job = factories.job(factories.version(app))
    assert job.claim(NOW)
    assert job.beat(NOW + timedelta(seconds=29))
    assert services.sweep_lost_jobs(now=NOW + timedelta(seconds=40)) == 0


def test_a_lost_message_is_sent_again(app, queued, inspected):
    register(app)
    queued.clear()
    assert services.sweep_lost_jobs(now=NOW + timedelta(seconds=59)) == 0
    assert services.sweep_lost_jobs(now=NOW + timedelta(seconds=61)) == 1
    assert len(queued) == 1


def test_workspaces_are_removed(app, queued, inspected, runner, settings):
    register(app)
    finish_all(queued)
    assert not list(settings.AEROGRAM_WORKSPACE_DIR.iterdir())


def test_the_audit_chain_shows_a_change(app):
    services.create_channel(application=app, slug="beta", actor="ada", now=NOW)
    assert AuditEntry.first_broken() is None
    entry = AuditEntry.objects.earliest("id")
    entry.reason = "rewritten"
    assert entry.computed_hash() != entry.entry_hash


@pytest.mark.parametrize("number", [1e16, 1.2345678901234567e23, -1e300, -0.0, 100.0, 1e-7, 5e-324, 10**400, 0.1])
def test_the_chain_holds_whatever_numbers_an_entry_tells(app, number):
    """PostgreSQL writes some numbers otherwise than Python, and a chain that breaks by itself proves nothing."""
    AuditEntry.record(now=NOW, actor="ada", verb="tell", subject="demo", after={"told": [{"number": number}]})
    assert AuditEntry.first_broken() is None


@pytest.mark.parametrize(
    ("held", "needed", "allowed"),
    [(None, Role.VIEWER, False), (Role.VIEWER, Role.EDITOR, False), (Role.RELEASER, Role.EDITOR, True)],
)
def test_roles_include_the_ones_below(app, held, needed, allowed):
    ada = factories.user()
    if held:
        services.grant(application=app, user=ada, role=held, actor="tests", now=NOW)
    if allowed:
        services.require_role(ada, app, needed)
    else:
        with pytest.raises(errors.NotAllowed, match="expected the role"):
            services.require_role(ada, app, needed)


@pytest.mark.parametrize("slug", ["", "Digits", "-a", "a-", "a/b", "..", "a" * 64, "ä"])
def test_names_fit_into_addresses_and_paths(app, slug, queued, inspected):
    with pytest.raises(errors.Invalid, match="expected"):
        services.create_application(slug=slug, name="x", actor="ada", now=NOW)
    with pytest.raises(errors.Invalid, match="expected"):
        services.register_version(application=app, model_slug=slug, source=upload(app), actor="ada", now=NOW)


def test_reports_survive_json():
    report = Report(state="failed", error=Failure("x", "y"))
    assert Report.from_json(replace(report, seconds=1.5).to_json()).seconds == 1.5


@pytest.mark.parametrize(
    ("built", "runtime", "expected"),
    [
        (("coreml-fp16", "coreml-linear-int8", "coreml-lut-4"), "coreml", "coreml-linear-int8"),
        (("coreml-fp16", "coreml-lut-4"), "coreml", "coreml-fp16"),
        (("coreml-lut-4",), "coreml", "coreml-lut-4"),
        (("coreml-as-is",), "coreml", "coreml-as-is"),
        (("tflite-float32", "tflite-full-int8"), "litert", "tflite-full-int8"),
        (("tflite-float32", "tflite-weight-int4"), "litert", "tflite-float32"),
        (("tflite-repaired",), "litert", "tflite-repaired"),
        (("onnx-float32", "ort-static-int8"), "onnxruntime", "ort-static-int8"),
        (("tflite-prune-90",), "litert", None),
    ],
)
def test_the_default_classes_offer_what_a_version_has(app, built, runtime, expected):
    version = factories.converted_version(app, names=built)
    profile = DeviceProfile(os="ios", runtime=runtime, runtime_version="26.0")
    matched = match(profile, [row.as_rule() for row in app.device_classes.all()]).device_class
    found = choose_variant(version.variants.all(), profile, matched)
    assert (found.name if found else None) == expected
