"""`aerogram rollout …` against a real server, and the scripts of docs/how-to/ramp-a-release.md as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from django.utils import timezone

from deploy.cli import experiments as cli_experiments
from deploy.cli import main
from distribution import services as releasing
from experiments import analysis
from experiments import services as experiment_services
from experiments.models import AnalysisRun, Experiment
from experiments.plans import Standing
from experiments.policy import Action
from experiments.services import reading, waiting
from registry import services
from registry.models import AuditEntry, Role
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs/how-to/ramp-a-release.md").read_text()
SCRIPTS = dict(re.findall(r"```sh\n# ([\w-]+\.sh)\n(.*?)```", HOW_TO, re.DOTALL))


@pytest.fixture
def app():
    app = factories.application()
    first = factories.converted_version(app)
    releasing.publish(channel=app.channels.get(), version=first, actor="ada", now=NOW)
    for _ in range(2):
        factories.converted_version(app)
    return app


@pytest.fixture
def tokens(app):
    found = {}
    for name in ("ada", "grace"):
        user = factories.user(name)
        services.grant(application=app, user=user, role=Role.RELEASER, actor="tests", now=NOW)
        found[name] = factories.token(user)
    return found


@pytest.fixture
def aerogram(tokens, live_server, monkeypatch, capsys):
    """Run one command as one of two people; gives (exit code, what was printed)."""

    def run(command, who="ada"):
        said = ["aerogram", "--url", live_server.url, "--token", tokens[who], *shlex.split(command)]
        monkeypatch.setattr("sys.argv", said)
        code = 0
        try:
            main.main()
        except SystemExit as ending:
            code = ending.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def shell(tokens, live_server, tmp_path):
    """Run a script of the how-to as one of two people; gives (exit code, what was printed)."""
    command = tmp_path / "aerogram"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m deploy.cli.main "$@"\n')
    command.chmod(0o755)

    def run(script, who="ada", **variables):
        known = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "AEROGRAM_WEB_URL": live_server.url,
            "AEROGRAM_TOKEN": tokens[who],
            **variables,
        }
        done = subprocess.run(["bash", "-c", SCRIPTS[script]], env=known, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def verdict(monkeypatch):
    """What the latest look says of every experiment; the server runs in this process."""
    said = {"standing": Standing(Action.ADVANCE, 5000, ("all is well",))}
    for module in (waiting, reading):
        monkeypatch.setattr(module, "standing_of", lambda experiment, now: said["standing"])
    return said


def begin(shell, plan="plan.sh"):
    for script, who in ((plan, "ada"), ("approve.sh", "grace")):
        code, printed = shell(script, who)
        assert code == 0, printed
    return Experiment.objects.get()


def test_the_how_to_has_its_scripts():
    ramping = {"plan.sh", "approve.sh", "ramp.sh", "try.sh", "mend.sh", "approve-again.sh"}
    assert set(SCRIPTS) == {*ramping, "design.sh", "lacking.sh", "holdback.sh"}


def test_the_scripts_of_the_how_to_ramp_a_release_to_everybody(shell, verdict):
    experiment = begin(shell)
    steps = experiment.steps.values_list("percent_bp", "hold_seconds", "min_units", "needs_approval")
    assert list(steps) == [
        (100, 86_400, 200, False),
        (1000, 86_400, 200, False),
        (5000, 172_800, 1000, True),
        (10_000, 86_400, 1000, False),
    ]
    code, printed = shell("try.sh")
    assert (code, "nothing was done" in printed) == (0, True), printed
    assert experiment.phases.count() == 1
    experiment.steps.update(hold_seconds=0, min_units=0, needs_approval=False)
    code, printed = shell("ramp.sh", RUN="night-1", PATIENCE="0")
    assert code == 0, printed
    experiment.refresh_from_db()
    assert experiment.state == "completed"
    assert [phase.percent_bp for phase in experiment.phases.all()] == [100, 500, 2500, 5000, 10_000]
    assert AuditEntry.objects.filter(verb="ramp_experiment", reason="ramp of night-1").count() == 4


def test_the_other_scripts_of_the_how_to_run_too(shell):
    begin(shell)
    for script, word in (
        ("design.sh", "careful: draft."),
        ("lacking.sh", "seconds: 8"),
        ("holdback.sh", "digits on production: nobody is held back."),
    ):
        code, printed = shell(script)
        assert (code, word in printed) == (0, True), printed
    careful = Experiment.objects.get(slug="careful")
    assert (careful.policy["slo_ms"], careful.starts_at, careful.steps.count()) == (50, None, 2)


def test_without_a_verdict_the_script_pauses_and_tells_so(shell):
    begin(shell)
    code, printed = shell("ramp.sh", RUN="night-1", PATIENCE="0")
    assert code == 11, printed
    assert Experiment.objects.get().state == "paused"
    assert AnalysisRun.objects.count() == 0


def test_the_scripts_of_the_how_to_mend_a_release(shell):
    experiment = begin(shell)
    code, printed = shell("mend.sh")
    assert code == 0, printed
    experiment.refresh_from_db()
    assert (experiment.state, experiment.awaiting) == ("halted", "resume")
    own = shell("approve-again.sh", "ada")
    assert (own[0], "own_experiment" in own[1]) == (1, True)
    assert shell("approve-again.sh", "grace")[0] == 0
    experiment.refresh_from_db()
    assert experiment.state == "running"
    assert experiment.phase.arms.get(is_control=False).model_version.number == 3


def running(aerogram):
    for command, who in (
        ("rollout create faster digits 2 --step 1 --step 100", "ada"),
        ("rollout submit faster", "ada"),
        ("rollout approve faster", "grace"),
        ("rollout start faster", "ada"),
    ):
        code, printed = aerogram(command, who)
        assert code == 0, printed
    return Experiment.objects.get()


@pytest.mark.parametrize(
    ("verb", "standing", "code"),
    [
        ("", Standing(Action.ADVANCE, 500), 0),
        ("", Standing(Action.HOLD, 500, ("funnel",)), 10),
        ("", Standing(Action.INCONCLUSIVE, 500), 11),
        ("rollout halt faster --reason r", Standing(Action.ADVANCE, 500), 20),
        ("rollout rollback faster --reason r", Standing(Action.ADVANCE, 500), 21),
    ],
)
def test_the_exit_code_of_status_is_the_decision(aerogram, verdict, verb, standing, code):
    verdict["standing"] = standing
    running(aerogram)
    if verb:
        assert aerogram(verb)[0] == 0
    found, printed = aerogram("--json rollout status faster --wait --timeout 0")
    assert found == code, printed
    assert json.loads(printed)["state"] in ("running", "halted", "rolled_back")


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ({"standing": Standing(Action.ADVANCE, 500)}, 0),
        ({"standing": Standing(Action.HOLD, 500, ("funnel",))}, 10),
        ({}, 11),
        ({"verb": "halt"}, 20),
        ({"verb": "rollback"}, 21),
    ],
)
def test_waiting_ends_with_what_happens_meanwhile(aerogram, verdict, monkeypatch, after, code):
    """Time is the one thing that is not real here: each pause brings the next event instead."""
    pauses = iter(range(10))
    verdict["standing"] = Standing(Action.INCONCLUSIVE, 500)
    experiment = running(aerogram)
    said = {"experiment": experiment, "actor": "grace", "now": timezone.now(), "reason": "meanwhile"}

    def pause(_seconds):
        if next(pauses) == 2:
            verdict["standing"] = after.get("standing", verdict["standing"])
            if "verb" in after:
                getattr(experiment_services, after["verb"])(**said)

    seconds = iter(range(10))
    monkeypatch.setattr(cli_experiments, "time", SimpleNamespace(sleep=pause, monotonic=lambda: next(seconds)))
    found, printed = aerogram("rollout status faster --wait --timeout 9 --every 1")
    assert found == code, printed
    assert next(pauses) == (3 if after else 8)


def test_waiting_ends_when_the_plan_went_on(aerogram, verdict, monkeypatch):
    verdict["standing"] = Standing(Action.INCONCLUSIVE, 500)
    experiment = running(aerogram)

    def pause(_seconds):
        experiment.steps.update(monitored=False)
        assert experiment_services.advance_due(timezone.now()) == 1
        experiment.steps.update(monitored=True)

    monkeypatch.setattr(cli_experiments, "time", SimpleNamespace(sleep=pause, monotonic=lambda: 0))
    assert aerogram("rollout status faster --wait --every 1")[0] == 0


@pytest.mark.parametrize(("is_back", "code"), [(True, 10), (False, 3)])
def test_a_server_that_is_away_for_a_while_ends_no_waiting(aerogram, verdict, monkeypatch, is_back, code):
    verdict["standing"] = Standing(Action.INCONCLUSIVE, 500)
    running(aerogram)
    pauses, seconds, send = iter(range(20)), iter(range(10)), httpx.Client.request
    away = {"now": False}

    def pause(_seconds):
        number = next(pauses)
        away["now"] = number in (1, 2) or (number > 2 and not is_back)
        verdict["standing"] = Standing(Action.HOLD if number == 4 else Action.INCONCLUSIVE, 500)

    def request(self, method, url, **options):
        if away["now"]:
            raise httpx.ReadError("connection reset")
        return send(self, method, url, **options)

    monkeypatch.setattr(httpx.Client, "request", request)
    monkeypatch.setattr(cli_experiments, "time", SimpleNamespace(sleep=pause, monotonic=lambda: next(seconds)))
    found, printed = aerogram("rollout status faster --wait --timeout 9 --every 1")
    assert found == code, printed


def test_for_a_draft_nobody_waits(aerogram, monkeypatch):
    """Rejected meanwhile, say: nothing comes of it by itself, and its reason is told."""
    assert aerogram("rollout create faster digits 2")[0] == 0
    assert aerogram("rollout submit faster")[0] == 0

    def pause(_seconds):
        assert aerogram("rollout reject faster --reason 'too fast'", "grace")[0] == 0
        assert aerogram("rollout show faster")[0] == 0

    monkeypatch.setattr(cli_experiments, "time", SimpleNamespace(sleep=pause, monotonic=lambda: 0))
    code, printed = aerogram("rollout status faster --wait")
    assert (code, "too fast" in printed) == (11, True), printed


def test_a_write_whose_answer_is_lost_is_sent_again_and_done_once(aerogram, monkeypatch):
    experiment = running(aerogram)
    send, lost = httpx.Client.request, iter([True])

    def request(self, method, url, **options):
        answer = send(self, method, url, **options)
        if method == "POST" and next(lost, False):
            raise httpx.ReadTimeout("no answer")
        return answer

    monkeypatch.setattr(httpx.Client, "request", request)
    code, printed = aerogram("rollout ramp faster --to 5 --reason r")
    assert (code, printed.strip()) == (0, "faster: running at 5 %.")
    assert experiment.phases.count() == 2


def test_another_state_is_a_conflict(aerogram):
    experiment = running(aerogram)
    stale = f"rollout ramp faster --to 5 --reason r --if-match '\"{experiment.pk}.1\"'"
    for command in (stale, "rollout start faster", "rollout advance faster"):
        code, printed = aerogram(command)
        assert code == 30, printed


@pytest.mark.parametrize(
    "command",
    [
        "rollout ramp faster --to 101 --reason r",
        "rollout ramp faster --to 0.001 --reason r",
        "rollout ramp faster --to x --reason r",
        "rollout ramp faster --to 5",
        "rollout create x digits 2 --step 5:a",
        "rollout create x digits 2 --step 5:1:1:maybe",
        "experiment create x digits --arm old:1",
        "rollout create x digits 2 --starts-at tomorrow",
        "rollout create x digits 2 --layer-range 5-6",
        "rollout create x digits 2 --policy /nowhere.json",
        "rollout edit x --starts-at 2026-12-01T08:00:00Z --at-once",
        "layer map digits",
        "holdback create digits 1",
    ],
)
def test_wrong_usage_is_exit_code_2(aerogram, command):
    code, printed = aerogram(command)
    assert code == 2, printed


def test_a_comparison_and_what_it_tells(aerogram):
    assert aerogram("experiment create compare digits --arm old=1 --arm new=2 --arm app=embedded --step 50")[0] == 0
    assert aerogram("experiment submit compare")[0] == 0
    assert aerogram("experiment approve compare", "grace")[0] == 0
    assert aerogram("experiment start compare")[0] == 0
    code, printed = aerogram("experiment override compare my-phone new --reason mine")
    assert code == 0, printed
    code, printed = aerogram("experiment explain compare my-phone")
    assert (code, "override" in printed) == (0, True)
    for command, word in (
        ("experiment list", "compare"),
        ("rollout list", "slug"),
        ("experiment show compare", '"version": null'),
        ("experiment changes compare", "start_experiment"),
        ("experiment status compare", "inconclusive"),
    ):
        assert word in aerogram(command)[1]


def test_results_are_printed_as_tables(aerogram, shell):
    experiment = begin(shell)
    code, printed = aerogram("rollout results faster")
    assert (code, "no look was taken yet" in printed) == (0, True)
    analysis.look(experiment, timezone.now())
    code, printed = aerogram("rollout results faster")
    assert code == 0, printed
    assert "inconclusive" in printed
    for word in ("first_inference", "crash, treatment", "too little data"):
        assert word in printed


def test_a_design_is_made_and_edited_by_options(aerogram, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text('{"slo_ms": 50}')
    made = (
        "rollout create faster digits 2 --step 1:24:200 --layer blue --layer-range 0:5000 "
        f"--starts-at 2030-01-01T08:00:00Z --policy {policy} --hypothesis smaller"
    )
    assert aerogram(made)[0] == 0
    row = Experiment.objects.get()
    assert (row.layer.slug, row.layer_first, row.layer_end, row.policy) == ("blue", 0, 5000, {"slo_ms": 50})
    assert (row.starts_at.isoformat(), row.hypothesis) == ("2030-01-01T08:00:00+00:00", "smaller")
    assert aerogram("rollout submit faster")[0] == 0
    code, printed = aerogram("rollout edit faster --version 3 --layer-range 5000:10000 --at-once --reason fix")
    assert (code, printed.strip()) == (0, "faster: draft.")
    row.refresh_from_db()
    assert (row.arms[0]["version"], row.layer_first, row.starts_at, row.hypothesis) == (3, 5000, None, "smaller")
    assert [step.percent_bp for step in row.steps.all()] == [100]
    assert aerogram("rollout submit faster")[0] == 0
    assert aerogram("rollout approve faster", "grace")[0] == 0
    assert aerogram("rollout start faster --starts-at 2030-01-01T08:00:00")[1].strip() == "faster: scheduled."


def test_what_a_status_lacks_is_in_its_json_and_in_words(aerogram):
    running(aerogram)
    code, printed = aerogram("--json rollout status faster")
    told = json.loads(printed)
    assert (code, told["lacking"]["verdict"]) == (11, "inconclusive")
    assert {"activated", "lost", "failed", "heard_at"} <= set(told["arms"][0])
    code, printed = aerogram("rollout status faster")
    assert "neither time nor units nor approvals are lacking" in printed
    assert "activated" in printed


def test_overrides_holdbacks_and_layers(aerogram):
    running(aerogram)
    assert aerogram("rollout override faster my-phone treatment --expires-at 2030-01-01T08:00:00Z")[0] == 0
    assert "treatment" in aerogram("rollout overrides faster")[1]
    assert aerogram("rollout clear-override faster my-phone --validate-only")[0] == 0
    assert "treatment" in aerogram("rollout overrides faster")[1]
    assert aerogram("rollout clear-override faster my-phone --reason done")[0] == 0
    assert AuditEntry.objects.get(verb="clear_override_of_experiment").reason == "done"
    assert aerogram("rollout clear-override faster " + "0" * 64)[0] == 1
    code, printed = aerogram("layer map digits")
    assert (code, "faster" in printed, "10000" in printed) == (0, True, True)
    assert "default" in aerogram("layer list")[1]

    made = "holdback create digits 1 --percent 2.5 --reason compare"
    assert "nothing was done" in aerogram(f"{made} --validate-only")[1]
    assert "2.5 % of digits on production stay on version 1." in aerogram(made)[1]
    assert aerogram(f"{made} --if-match '\"0.0\"'")[0] == 30
    assert aerogram("holdback create digits 2 --reason later")[0] == 0
    assert '"version": 2' in aerogram("--json holdback list")[1]
    assert "nothing was done" in aerogram("holdback lift digits --reason fix --validate-only")[1]
    assert aerogram("holdback lift digits --reason fix")[1].strip() == "digits on production: nobody is held back."
    assert aerogram("holdback lift digits --reason fix")[0] == 1


def test_what_would_be_seen_is_a_table(aerogram):
    running(aerogram)
    code, printed = aerogram("rollout detectable faster")
    assert code == 0, printed
    for word in ("the least harm that would be seen with 0 units", "crash", "units in each arm"):
        assert word in printed


def test_every_address_of_experiments_is_reached_by_a_verb(aerogram, monkeypatch):
    """By running each verb, and by what the server was asked."""
    from experiments.api.urls import urlpatterns

    asked = recorded(monkeypatch)
    running(aerogram)
    for command in EVERY_VERB:
        aerogram(command)
    wanted = {
        (method, re.sub(r"<\w+:\w+>", "*", str(pattern.pattern)))
        for pattern in urlpatterns
        for method in pattern.callback.view_class.verbs
    }
    assert wanted - {(method, masked(path, wanted)) for method, path in asked} == set()


EVERY_VERB = [
    *(f"rollout {verb} faster" for verb in ("show", "status", "results", "changes", "detectable", "overrides")),
    *(f"rollout {verb} faster --reason r" for verb in ("reject", "pause", "halt", "rollback", "rerandomise", "edit")),
    *(f"rollout {verb} faster" for verb in ("resume", "advance", "approve-step", "complete", "archive")),
    "rollout list",
    "experiment list",
    "experiment create other digits --arm a=1 --arm b=2",
    "rollout ramp faster --to 2 --reason r",
    "rollout supersede faster --version 3 --reason r",
    "rollout explain faster u",
    "rollout override faster u treatment",
    "rollout clear-override faster u",
    "holdback create digits 1 --reason r",
    "holdback lift digits --reason r",
    "holdback list",
    "layer list",
    "layer map digits",
    "unit forget u",
]


def recorded(monkeypatch):
    from deploy.cli.client import ControlPlane

    asked, send = [], ControlPlane._send

    def noted(self, method, path, **options):
        asked.append((method, f"applications/{self.application}/{path}"))
        return send(self, method, path, **options)

    monkeypatch.setattr(ControlPlane, "_send", noted)
    return asked


def masked(path, wanted):
    """The pattern that a path fits; the longest one, since a name may be a word of another pattern."""
    fits = [known for _, known in wanted if re.fullmatch(known.replace("*", "[^/]+"), path)]
    return max(fits, key=lambda known: (-known.count("*"), len(known)), default=path)
