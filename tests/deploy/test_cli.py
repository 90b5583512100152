"""The command line against a real server: output, JSON and exit codes."""

import json

import pytest
from click.testing import CliRunner

from deploy.cli import main
from distribution.models import Release
from registry import services as registry_services
from registry.models import JobState, Role
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def app():
    return factories.application()


@pytest.fixture
def aerogram(app, live_server, monkeypatch, capsys):
    """Run `aerogram …` as an editor or another role; gives (exit code, what was printed)."""

    def run(*arguments, role=Role.RELEASER):
        user = factories.user(f"{role.label}-{len(arguments)}-{app.memberships.count()}")
        registry_services.grant(application=app, user=user, role=role, actor="tests", now=NOW)
        command = ["aerogram", "--url", live_server.url, "--token", factories.token(user), *arguments]
        monkeypatch.setattr("sys.argv", command)
        code = 0
        try:
            main.main()
        except SystemExit as ending:
            code = ending.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_publish_without_waiting_and_roll_back(aerogram, app):
    for number in ("1", "2"):
        factories.converted_version(app)
        assert aerogram("publish", "digits", number, "--no-wait")[0] == 0
    Release.objects.update(live_revision=1)
    code, printed = aerogram("--json", "rollback", "digits", "--reason", "worse", "--no-wait")
    assert (code, json.loads(printed)["version"]) == (0, 1)


def test_a_release_that_does_not_go_live_in_time_is_exit_code_4(aerogram, app):
    factories.converted_version(app)
    code, printed = aerogram("publish", "digits", "1", "--timeout", "0")
    assert (code, "signer" in printed) == (4, True)


def test_a_refusal_is_exit_code_1_with_the_servers_words(aerogram, app):
    factories.converted_version(app)
    code, printed = aerogram("publish", "digits", "1", role=Role.VIEWER)
    assert code == 1
    assert "not_allowed" in printed


def test_a_server_that_is_away_is_exit_code_3(aerogram, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["aerogram", "--url", "http://127.0.0.1:9", "--token", "x", "models"])
    with pytest.raises(SystemExit) as ending:
        main.main()
    assert ending.value.code == 3
    assert "no answer from" in capsys.readouterr().err


def test_without_a_token_it_says_where_one_comes_from(monkeypatch):
    monkeypatch.delenv("AEROGRAM_TOKEN", raising=False)
    result = CliRunner().invoke(main.cli, ["models"])
    assert result.exit_code == 2
    assert "AEROGRAM_TOKEN" in result.output


def test_variants_shows_what_each_conversion_cost_and_why_one_is_missing(aerogram, app):
    version = factories.converted_version(app)
    job = factories.job(version, "tflite-full-int8", JobState.NOT_APPLICABLE)
    job.report = {"error": {"code": "not_applicable", "detail": "no evaluation set"}}
    job.save()
    factories.job(version, "tflite-float32", JobState.SUCCEEDED)
    code, printed = aerogram("variants", "digits", "1")
    assert code == 0
    assert "no evaluation" in printed
    assert "tflite-float32" in printed


@pytest.mark.parametrize("command", [("models",), ("versions", "digits"), ("releases",)])
def test_lists(aerogram, app, command):
    version = factories.converted_version(app)
    Release.objects.create(
        channel=app.channels.get(), model_version=version, release_counter=1, released_by="ada", released_at=NOW
    )
    code, printed = aerogram(*command)
    assert (code, "1" in printed) == (0, True)


def test_push_streams_a_file_and_shows_the_servers_refusal(aerogram, tmp_path):
    source = tmp_path / "model.keras"
    source.write_bytes(b"not a model")
    code, printed = aerogram("push", "digits", str(source), role=Role.EDITOR)
    assert code == 1
    assert "source_refused" in printed


def test_a_kill_switch_is_engaged_and_lifted(aerogram, app):
    model = factories.converted_version(app).model
    assert aerogram("kill", "digits", "--reason", "wrong labels")[0] == 0
    assert model.kill_switches.filter(lifted_at__isnull=True).exists()
    assert aerogram("lift", "digits", "--reason", "right again")[0] == 0
    assert not model.kill_switches.filter(lifted_at__isnull=True).exists()
