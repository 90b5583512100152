"""The command line against a real server: output, JSON and exit codes."""

import json

import pytest
from click.testing import CliRunner

from deploy.cli import main
from distribution.models import ChannelSettings, Release
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


@pytest.mark.parametrize("said", [("push",), ("rollout", "ramp"), ("trust", "status")])
def test_help_needs_no_token(monkeypatch, said):
    for name in ("AEROGRAM_TOKEN", "AEROGRAM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(main.cli, [*said, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


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
    assert model.kill_switches.filter(lifted_at__isnull=True).exists(), "somebody else must approve"
    ChannelSettings.objects.update(lift_approvals_required=0)
    assert aerogram("lift", "digits", "--reason", "right again")[0] == 0
    assert not model.kill_switches.filter(lifted_at__isnull=True).exists()


class TestVerbsOfAdministrators:
    def test_an_application_a_channel_and_their_lists(self, app, live_server):
        run = as_superuser(live_server)
        assert run("create-application", "second")["slug"] == "second"
        assert run("create-channel", "beta")["slug"] == "beta"
        assert run("create-model", "letters", "--name", "Letters")["versions"] == 0
        assert [row["slug"] for row in run("applications")] == ["demo", "second"]
        assert [row["slug"] for row in run("channels")] == ["beta", "production"]

    def test_a_role_is_granted_changed_and_revoked(self, app, live_server):
        run = as_superuser(live_server)
        factories.user("grace")
        assert run("grant", "grace", "viewer") == {"user": "grace", "role": "viewer"}
        assert run("grant", "grace", "editor") == {"user": "grace", "role": "editor"}
        assert [row["role"] for row in run("members")] == ["editor"]
        run("revoke", "grace")
        assert run("members") == []

    def test_a_token_is_issued_used_and_revoked(self, app, live_server):
        run = as_superuser(live_server)
        made = run("issue-token", "ci", "--role", "viewer", "--days", "1")
        assert (made["role"], made["application"]) == ("viewer", "demo")
        narrow = ["--url", live_server.url, "--token", made["token"], "--json"]
        assert CliRunner().invoke(main.cli, [*narrow, "models"]).exit_code == 0
        refused = CliRunner().invoke(main.cli, [*narrow, "create-channel", "beta"])
        assert (refused.exit_code, json.loads(refused.stderr)["code"]) == (1, "not_allowed")
        run("revoke-token", str(made["id"]))
        assert CliRunner().invoke(main.cli, [*narrow, "models"]).exit_code == 1
        assert "ci" not in [row["name"] for row in run("tokens")]


def test_the_log_of_what_was_done_in_json_and_as_a_table(app, live_server):
    run = as_superuser(live_server)
    version = factories.converted_version(app)
    assert run("yank", "digits", "1", "--reason", "trained on the wrong set")["yanked_at"]
    (entry,) = run("audit-log", "--verb", "yank_version", "--most", "1")
    assert (entry["subject"], entry["reason"]) == (str(version), "trained on the wrong set")
    assert "trained on" in run("audit-log", as_json=False)


def test_lists_go_through_all_pages(app, live_server, monkeypatch):
    monkeypatch.setattr("deploy.cli.client.PAGE", 2)
    for _ in range(5):
        factories.version(app)
    run = as_superuser(live_server)
    assert [row["number"] for row in run("versions", "digits")] == [5, 4, 3, 2, 1]
    assert len(run("audit-log", "--most", "1")) == 1


def test_which_device_class_a_device_would_get(app, live_server):
    run = as_superuser(live_server)
    assert run("match", "--os", "ios", "--runtime", "coreml")["device_class"] == "ios-coreml"
    shown = run("match", "--os", "android", as_json=False)
    assert "not ios-coreml" in shown
    assert "everything-else" in shown


@pytest.mark.parametrize(
    "command",
    [
        "jobs",
        "channels",
        "device-classes",
        "members",
        "revisions",
        "kill-switches",
        "audit-log",
        "applications",
        "tokens",
    ],
)
def test_every_list_prints_as_a_table_and_as_json(app, live_server, command):
    model = factories.converted_version(app).model
    factories.job(model.versions.get(), "tflite-float32")
    run = as_superuser(live_server)
    run("kill", "digits", "--reason", "x")
    assert isinstance(run(command), list)
    assert run(command, as_json=False)


def test_progress_and_tables_stay_out_of_json(aerogram, tmp_path):
    source = tmp_path / "model.keras"
    source.write_bytes(b"not a model")
    code, printed = aerogram("--json", "push", "digits", str(source), role=Role.EDITOR)
    assert (code, json.loads(printed)["code"]) == (1, "source_refused")


def test_a_creation_whose_answer_was_lost_is_sent_again_and_done_once(app, live_server):
    import httpx

    from deploy.cli.client import ControlPlane

    lost = []

    class Losing(httpx.HTTPTransport):
        def handle_request(self, request):
            answer = super().handle_request(request)
            if request.method == "POST" and not lost:
                lost.append(answer.status_code)
                answer.close()
                raise httpx.ReadError("connection lost", request=request)
            return answer

    root = factories.user("root", superuser=True)
    server = ControlPlane(live_server.url, factories.token(root), "demo", httpx.Client(transport=Losing()))
    assert server.create_channel("beta")["slug"] == "beta"
    assert lost == [201]
    assert app.channels.filter(slug="beta").count() == 1
    server.close()


def as_superuser(live_server):
    user = factories.user("root", superuser=True)
    options = ["--url", live_server.url, "--token", factories.token(user)]

    def run(*arguments, as_json=True):
        result = CliRunner().invoke(main.cli, [*options, *(["--json"] if as_json else []), *arguments])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if as_json else result.stdout

    return run
