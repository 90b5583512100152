"""`aerogram rollout …` against a real server, and the scripts of docs/how-to/ramp-a-release.md as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.utils import timezone

from deploy.cli import main
from distribution import services as releasing
from experiments import analysis
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
        monkeypatch.setattr(module, "decision_for", lambda experiment, now: said["standing"])
    return said


def begin(shell, plan="plan.sh"):
    for script, who in ((plan, "ada"), ("approve.sh", "grace")):
        code, printed = shell(script, who)
        assert code == 0, printed
    return Experiment.objects.get()


def test_the_how_to_has_its_scripts():
    assert set(SCRIPTS) == {"plan.sh", "approve.sh", "ramp.sh", "try.sh", "mend.sh", "approve-again.sh"}


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
