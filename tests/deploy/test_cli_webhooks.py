"""`aerogram webhook …` against a real server: each verb, and what a person reads."""

import json

import pytest
from click.testing import CliRunner

from deploy.cli.main import cli
from registry.models import Role, Webhook, WebhookDelivery
from registry.services import grant
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services")]
ADDRESS = "https://hooks.example.com/aerogram"


@pytest.fixture
def aerogram(live_server):
    """Runs `aerogram …` as an administrator; gives what was printed, after it ended as expected."""
    app, user = factories.application(), factories.user("ada")
    grant(application=app, user=user, role=Role.ADMINISTRATOR, actor="tests", now=NOW)
    token = factories.token(user)

    def run(*arguments, code=0):
        done = CliRunner().invoke(cli, ["--url", live_server.url, "--token", token, *arguments])
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_each_verb(aerogram):
    assert aerogram("webhook", "create", "ops", ADDRESS, "--event", "rollout.halted").startswith("whsec_")
    assert Webhook.objects.get().event_types == ["rollout.halted"]
    assert "ops" in aerogram("webhook", "list")

    assert "aerogram webhook deliveries ops" in aerogram("webhook", "test", "ops")
    number = WebhookDelivery.objects.get().pk
    sent = json.loads(aerogram("--json", "webhook", "deliveries", "ops"))
    assert [(row["id"], row["event_type"]) for row in sent] == [(number, "webhook.test")]
    table = aerogram("webhook", "deliveries", "ops")
    assert "webhook." in table
    assert "…" not in table, "a narrow terminal breaks words, and cuts none"
    assert f"{number} is on its way again" in aerogram("webhook", "redeliver", "ops", str(number))

    assert aerogram("webhook", "rotate-secret", "ops").startswith("whsec_")
    aerogram("webhook", "disable", "ops", "--reason", "moving house")
    assert Webhook.objects.get().disabled_reason == "moving house"
    assert "elsewhere" in aerogram("webhook", "change", "ops", ADDRESS + "/elsewhere")
    assert Webhook.objects.get().disabled_reason == ""
    aerogram("webhook", "delete", "ops")
    assert not Webhook.objects.exists()


def test_what_goes_wrong_is_told(aerogram):
    assert "expected a public address" in aerogram("webhook", "create", "ops", "https://10.0.0.1/", code=1)
    assert "webhook_refused" in aerogram("webhook", "create", "ops", "http://hooks.example.com/", code=1)
    unknown = aerogram("webhook", "create", "ops", ADDRESS, "--event", "rollout.ended", code=2)
    assert "rollout.rolled_back" in unknown, "those there are"
    assert "not_found" in aerogram("webhook", "test", "nobody", code=1)
