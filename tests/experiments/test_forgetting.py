"""One installation is forgotten everywhere, and nobody else is: on the server, by REST and from the command line."""

import io
import json
import logging
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from deploy.cli import main
from distribution.models import AppAttestKey, Pin, TestDevice
from experiments import ingest, services
from experiments.delivery import delivery
from experiments.models import DeviceEvent, Exposure, Override
from experiments.services.recording import told
from registry import services as registry_services
from registry.models import AuditEntry, PublishRequest, Role
from tests import factories
from tests.api.conftest import Caller
from tests.experiments import measured
from tests.experiments.measured import event, passed, report, units
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_store")]


@pytest.fixture
def of(services, settings):
    settings.EVENT_STREAM_URL = services.event_stream_url
    return measured.experiment()


@pytest.fixture
def pair(of, event_stream):
    """Two units of whom everything is known: the first is to be forgotten."""
    gone, stays = units(of, "treatment", 2)
    ingester = ingest.Ingester(event_stream, Clock(NOW + timedelta(hours=2)))
    ingester.prepare()
    for unit in (gone, stays):
        report(event_stream, unit, *passed(2, "assigned", "activate"))
        report(event_stream, unit, event("activate", at=NOW, id="no id"))
    ingester.step()
    for unit in (gone, stays):
        report(event_stream, unit, *passed(2, "first_inference"))
        _named(of, unit)
    return gone, stays


def _named(of, unit):
    """Everywhere that a unit can stand by its hash."""
    services.set_override(experiment=of, unit=unit, arm="control", actor="ada", now=NOW)
    key = delivery().unit_key(of.application, unit)
    version = of.model.versions.get(number=1)
    Pin.objects.create(
        channel=of.channel, model=of.model, version=version, unit_key=key, pinned_by="ada", pinned_at=NOW
    )
    said = {"invited_by": "ada", "invited_at": NOW, "expires_at": NOW, "enrolled_at": NOW}
    TestDevice.objects.create(channel=of.channel, name=f"of {unit}", token_sha256=key, unit_key=key, **said)
    said = {"attest_key_id": key, "public_key": b"", "attested_at": NOW}
    AppAttestKey.objects.create(application=of.application, unit_key=key, **said)


COUNTS = {"events": 2, "exposures": 1, "waiting": 2, "overrides": 1, "pins": 3}


def forgotten_alone(of, event_stream, gone, stays):
    assert set(DeviceEvent.objects.values_list("unit", flat=True)) == {stays}
    assert Exposure.objects.get().unit == stays
    for key in (ingest.STREAM, ingest.DEAD_LETTERS):
        assert [fields[b"unit"].decode() for _, fields in event_stream.xrange(key)] == [stays]
    kept = delivery().unit_key(of.application, stays)
    for rows in (Override, Pin, TestDevice, AppAttestKey):
        assert rows.objects.get().unit_key == kept
    entry = AuditEntry.objects.get(verb="forget_unit")
    assert entry.after == COUNTS
    assert not [
        row for row in AuditEntry.objects.all() if gone in f"{row.subject} {row.reason} {row.before} {row.after}"
    ]
    assert PublishRequest.objects.filter(reason="forget_unit").exists()


def test_a_unit_is_forgotten_everywhere(of, pair, event_stream, capsys):
    call_command("forget_unit", "demo", pair[0])
    assert capsys.readouterr().out == (
        "forgotten: 2 events, 1 outcomes, 2 waiting batches, 1 overrides, 3 pins and devices\n"
    )
    forgotten_alone(of, event_stream, *pair)
    assert AuditEntry.objects.filter(subject="experiment demo/first").order_by("pk").last().after == told(of)


def test_an_application_that_is_not_there_is_refused():
    with pytest.raises(CommandError, match="there is no 'nothing'"):
        call_command("forget_unit", "nothing", "u1")


@pytest.fixture
def administrator(of):
    user = factories.user("root of demo")
    registry_services.grant(application=of.application, user=user, role=Role.ADMINISTRATOR, actor="tests", now=NOW)
    return Caller(user)


def test_by_rest_once_for_one_key_and_not_in_any_log(of, pair, event_stream, administrator, caplog):
    caplog.set_level(logging.DEBUG)
    body = {"unit": pair[0]}
    answer = administrator("POST", "units/forget", body, Idempotency_Key="k")
    assert (answer.status_code, answer.json()) == (200, COUNTS)
    forgotten_alone(of, event_stream, *pair)
    again = administrator("POST", "units/forget", body, Idempotency_Key="k")
    assert (again.json(), again["Idempotent-Replayed"]) == (COUNTS, "true")
    assert AuditEntry.objects.filter(verb="forget_unit").count() == 1
    assert not [record for record in caplog.records if record.name != "django.db.backends" and pair[0] in str(record)]
    assert set(administrator("POST", "units/forget", body).json().values()) == {0}


@pytest.mark.parametrize("unit", ["", "a b", "u" * 129, None])
def test_what_is_no_unit_is_refused(administrator, unit):
    answer = administrator("POST", "units/forget", {"unit": unit})
    assert (answer.status_code, answer.json()["field"]) == (400, "unit")
    assert not unit or unit not in answer.json()["detail"]


def test_without_the_event_stream_nothing_is_forgotten(of, pair, administrator, settings):
    settings.EVENT_STREAM_URL = "redis://127.0.0.1:9/0"
    answer = administrator("POST", "units/forget", {"unit": pair[0]})
    assert (answer.status_code, answer.json()["code"]) == (503, "events_unavailable")
    assert Exposure.objects.filter(unit=pair[0]).exists()


@pytest.mark.parametrize("is_from_stdin", [False, True])
def test_from_the_command_line(of, pair, event_stream, administrator, live_server, monkeypatch, capsys, is_from_stdin):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pair[0].encode() + b"\n")))
    token = factories.token(administrator.user)
    said = ["aerogram", "--json", "--url", live_server.url, "--token", token, "unit", "forget"]
    monkeypatch.setattr("sys.argv", [*said, "-" if is_from_stdin else pair[0]])
    with pytest.raises(SystemExit, check=lambda ending: not ending.code):
        main.main()
    assert json.loads(capsys.readouterr().out) == COUNTS
    forgotten_alone(of, event_stream, *pair)
