"""The command line's verbs about conversions, against a real server; conversions themselves are faked at the runner."""

import json

import pytest

from deploy.cli import group
from deploy.cli.client import ControlPlane
from registry import services as registry_services
from registry.models import JobState, Role
from registry.services.conversions import queueing
from tests import factories
from tests.deploy.test_cli import aerogram, app  # noqa: F401 fixtures
from tests.factories import NOW, Clock
from tests.registry.fake_conversions import FOUND, FakeRunner, register

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
F32, F16 = "tflite-float32", "tflite-float16"


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(registry_services.versions.inspection, "inspect_source", lambda _path, _name: FOUND)
    monkeypatch.setattr(queueing, "send_on_commit", lambda _work: None)
    monkeypatch.setattr(group.console, "_width", 160)
    return FakeRunner(monkeypatch)


def run_all(version):
    while (job := version.jobs.filter(state=JobState.QUEUED).first()) is not None:
        registry_services.run_job(job_id=job.pk, clock=Clock())


@pytest.fixture
def version(app, runner):  # noqa: F811
    made = register(app, recipes=[F32])
    run_all(made)
    return made


def test_convert_cancel_prioritise_retry(aerogram, version):  # noqa: F811
    assert aerogram("convert", "digits", "1", F16, "--no-wait", role=Role.EDITOR)[0] == 0
    assert aerogram("prioritise", "digits", "1", F16, "3", role=Role.EDITOR)[0] == 0
    assert version.jobs.get(recipe=F16).priority == 3
    assert aerogram("cancel", "digits", "1", F16, role=Role.EDITOR)[0] == 0
    assert version.jobs.get(recipe=F16).state == "cancelled"
    assert "queued again" in aerogram("retry", "digits", "1", F16, role=Role.EDITOR)[1]
    assert aerogram("cancel", "digits", "1", role=Role.EDITOR)[0] == 0
    code, printed = aerogram("cancel", "digits", "1", role=Role.EDITOR)
    assert (code, "job_finished" in printed) == (1, True)


def test_matrix_and_compare(aerogram, version):  # noqa: F811
    code, printed = aerogram("matrix", "digits", "1")
    assert (code, "0.9500" in printed, "+0.0400" in printed) == (0, True, True), printed
    code, printed = aerogram("rebuild", "digits", "1", "--no-wait", role=Role.EDITOR)
    assert code == 0
    run_all(version.model.versions.get(number=2))
    document = json.loads(aerogram("--json", "matrix", "digits", "2")[1])
    assert {row["recipe"]: row["reused_from"] for row in document["rows"]} == {"trace": "digits:1", F32: "digits:1"}
    code, printed = aerogram("compare", "digits", "1", "2")
    assert (code, "version 2 against 1" in printed, "+0" in printed) == (0, True, True)


def test_reproduce_prints_each_file_and_ends_with_5_when_one_differs(aerogram, version, runner, monkeypatch):  # noqa: F811
    def run_now(row):
        registry_services.run_reproduction(reproduction_id=row.pk, clock=Clock())

    monkeypatch.setattr(queueing, "send_on_commit", run_now)
    code, printed = aerogram("reproduce", "digits", "1", F32, role=Role.EDITOR)
    assert (code, "equal  model.tflite" in printed) == (0, True), printed
    runner.salt = b" otherwise"
    code, printed = aerogram("reproduce", "digits", "1", F32, role=Role.EDITOR)
    assert (code, "different  model.tflite" in printed) == (5, True), printed
    code, printed = aerogram("--json", "reproduce", "digits", "1", F32, role=Role.EDITOR)
    assert (code, json.loads(printed)["state"]) == (5, "different")


def test_reproduce_all_builds_each_variant_and_counts_those_that_are_equal(aerogram, version, runner, monkeypatch):  # noqa: F811
    def run_now(row):
        runner.salt = b" otherwise" if row.variant.name == F16 else b""
        registry_services.run_reproduction(reproduction_id=row.pk, clock=Clock())

    assert aerogram("convert", "digits", "1", F16, "--no-wait", role=Role.EDITOR)[0] == 0
    run_all(version)
    monkeypatch.setattr(queueing, "send_on_commit", run_now)
    code, printed = aerogram("reproduce", "digits", "1", "--all", role=Role.EDITOR)
    assert (code, "1 of 2 variants of digits version 1 came out the same" in printed) == (5, True), printed
    code, printed = aerogram("--json", "reproduce", "digits", "1", "--all", role=Role.EDITOR)
    states = {name: row["state"] for name, row in json.loads(printed).items()}
    assert (code, states) == (5, {F32: "equal", F16: "different"})
    assert aerogram("reproduce", "digits", "1", role=Role.EDITOR)[0] == 2
    assert aerogram("reproduce", "digits", "1", F32, "--all", role=Role.EDITOR)[0] == 2


def test_profiles_and_a_push_that_names_one(aerogram, version, tmp_path):  # noqa: F811
    for recipes in ((F32, F16), (F16,)):
        assert aerogram("set-profile", "digits", "phones", *recipes, role=Role.EDITOR)[0] == 0
    code, printed = aerogram("profiles", "digits")
    assert (code, F16 in printed, F32 in printed) == (0, True, False)
    source, metadata, training = (tmp_path / name for name in ("model.keras", "metadata.json", "train.npz"))
    source.write_bytes(b"PK pushed")
    metadata.write_text('{"name": "Digits"}')
    training.write_bytes(factories.evaluation_set())
    options = ("--profile", "phones", "--metadata", str(metadata), "--training-set", str(training), "--no-wait")
    assert aerogram("push", "digits", str(source), *options, role=Role.EDITOR)[0] == 0
    pushed = version.model.versions.get(number=2)
    assert (pushed.profile, pushed.metadata, pushed.training_set.size_bytes) == (
        "phones",
        {"name": "Digits"},
        len(factories.evaluation_set()),
    )
    assert set(pushed.jobs.values_list("recipe", flat=True)) == {"trace", F16}
    code, printed = aerogram("push", "digits", str(source), "--profile", "none", "--no-wait", role=Role.EDITOR)
    assert (code, "unknown_profile" in printed) == (1, True)
    assert aerogram("delete-profile", "digits", "phones", role=Role.EDITOR)[0] == 0
    assert not version.model.profiles.exists()


def test_gates_override_and_benchmark(aerogram, version, tmp_path):  # noqa: F811
    document = tmp_path / "gates.json"
    document.write_text('{"max_bytes": 3, "max_latency_us": {"everything-else": 100}}')
    assert aerogram("gates", "digits", "--set", str(document))[0] == 0
    assert json.loads(aerogram("gates", "digits")[1])["max_bytes"] == 3
    code, printed = aerogram("publish", "digits", "1", "--no-wait")
    assert (code, "gates_missed" in printed) == (1, True)
    measured = ("--device-class", "everything-else", "--device", "Pixel 8", "--p50-us", "120", "--p90-us", "150")
    assert aerogram("benchmark", "digits", "1", F32, *measured, "--runs", "50", role=Role.EDITOR)[0] == 0
    code, printed = aerogram("override", "digits", "1", F32, "--reason", "a demo")
    assert (code, "120 on Pixel 8" in printed) == (0, True), printed
    assert aerogram("publish", "digits", "1", "--no-wait")[0] == 0
    assert "overridden" in aerogram("matrix", "digits", "1")[1]


def test_a_push_that_waits_tells_the_step_of_each_recipe(app, runner, live_server, capsys):  # noqa: F811
    from rich.console import Console

    from deploy.cli import views

    user = factories.user("ada", superuser=True)
    server = ControlPlane(live_server.url, factories.token(user), "demo")
    version = register(app, recipes=[F32])
    job = version.jobs.get(recipe="trace")
    job.claim(NOW)
    job.beat(NOW, progress={"step": "tracing", "percent": 30})
    console = Console(force_terminal=True, width=100)
    with pytest.raises(TimeoutError):
        views.follow_conversions(console, server, "digits", 1, timeout_seconds=0, quiet=False)
    printed = capsys.readouterr().out
    assert "tracing" in printed
    assert "30" in printed
    server.close()
