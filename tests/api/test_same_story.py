"""One story told three times, by REST, by the command line and by the command line again: one audit log."""

import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

from deploy.cli.main import cli
from distribution import publishing
from distribution.models import ChannelSettings
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import sign_pending
from registry import services
from registry.models import AuditEntry, JobState, Role
from tests import factories
from tests.api.conftest import Caller
from tests.factories import NOW

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("services", "own_store"),
    pytest.mark.light,
]
TOLD = ("actor", "verb", "subject", "before", "after", "reason")
VERBS = [
    "register_version",
    "publish",
    "register_version",
    "publish",
    "engage_kill_switch",
    "lift_kill_switch",
    "roll_back",
]


def now():
    return datetime.now(UTC)


class Backstage:
    """What workers, signer and publisher do between the lines."""

    def __init__(self, application, keys):
        self.application = application
        self.keys = KeyFolder(keys)
        for channel in application.channels.all():  # one person tells the whole story
            ChannelSettings.objects.create(channel=channel, lift_approvals_required=0)

    def convert(self):
        version = self.application.registered_models.get().versions.first()
        while job := version.jobs.filter(state=JobState.QUEUED).first():
            services.run_job(job_id=job.pk, clock=now)
        assert version.variants.exists(), list(version.jobs.values("recipe", "state", "report__error"))

    def publish(self):
        publishing.publish_application(self.application, clock=now)
        sign_pending(application=self.application, keys=self.keys, now=now())
        publishing.publish_application(self.application, clock=now)


@pytest.fixture
def models(tmp_path):
    """Two small models that a runtime runs."""
    from tests.sdk import tiny_tflite

    paths = []
    for number in (1, 2):
        weights = np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)
        paths.append(tmp_path / f"model-{number}.tflite")
        paths[-1].write_bytes(tiny_tflite.float_model(weights))
    return paths


def by_rest(application, user, models, backstage):
    ask = Caller(user)
    base = f"/api/v1/applications/{application.slug}"
    channel = f"{base}/channels/production"

    def push_and_publish(path, number):
        content = path.read_bytes()
        query = f"file_name={path.name}&sha256={hashlib.sha256(content).hexdigest()}"
        sent = ask.client.post(f"{base}/uploads?{query}", content, content_type="application/octet-stream")
        ok(ask("POST", f"{base}/models/digits/versions", {"source": sent.json()["id"], "notes": "n"}))
        backstage.convert()
        ok(ask("POST", f"{channel}/releases", {"model": "digits", "version": number, "reason": f"try {number}"}))
        backstage.publish()

    for number, path in enumerate(models, start=1):
        push_and_publish(path, number)
    ok(ask("POST", f"{channel}/kill-switches/digits", {"reason": "wrong labels"}))
    ok(ask("DELETE", f"{channel}/kill-switches/digits", {"reason": "right again"}))
    ok(ask("POST", f"{channel}/rollback", {"model": "digits", "reason": "slower"}))


def ok(answer):
    assert answer.status_code in (201, 204), answer.content


def by_command_line(application, user, models, backstage, url):
    def aerogram(*arguments):
        options = ["--url", url, "--token", factories.token(user), "-a", application.slug, "--json"]
        result = CliRunner().invoke(cli, [*options, *map(str, arguments)])
        assert result.exit_code == 0, result.output
        json.loads(result.output)

    for number, path in enumerate(models, start=1):
        aerogram("push", "digits", path, "--no-wait", "--notes", "n")
        backstage.convert()
        aerogram("publish", "digits", number, "--reason", f"try {number}", "--no-wait")
        backstage.publish()
    aerogram("kill", "digits", "--reason", "wrong labels")
    aerogram("lift", "digits", "--reason", "right again")
    aerogram("rollback", "digits", "--reason", "slower", "--no-wait")


def log_of(application):
    entries = AuditEntry.objects.filter(application=application.slug, actor="ada").order_by("id")
    return [tuple(getattr(entry, name) for name in TOLD) for entry in entries]


def test_by_rest_and_by_command_line_the_same_log_is_left(models, tmp_path, live_server):
    user = factories.user("ada")
    logs = []
    for name in ("by-rest", "by-cli"):
        application = factories.application(name)
        services.grant(application=application, user=user, role=Role.RELEASER, actor="tests", now=NOW)
        backstage = Backstage(application, tmp_path / name)
        if name == "by-rest":
            by_rest(application, user, models, backstage)
        else:
            by_command_line(application, user, models, backstage, live_server.url)
        logs.append(log_of(application))
    assert [entry[1] for entry in logs[0]] == VERBS
    assert logs[0] == logs[1]
    assert [entry[-1] for entry in logs[0]] == ["", "try 1", "", "try 2", "wrong labels", "right again", "slower"]
    assert AuditEntry.first_broken() is None
