"""One installation is forgotten everywhere, and nobody else is."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from experiments import ingest
from experiments.models import DeviceEvent, Exposure
from registry.models import AuditEntry
from tests.experiments import measured
from tests.experiments.measured import event, passed, report, units
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_store")]


def test_a_unit_is_forgotten_everywhere(event_stream, services, settings, capsys):
    settings.EVENT_STREAM_URL = services.event_stream_url
    of = measured.experiment()
    gone, stays = units(of, "treatment", 2)
    ingester = ingest.Ingester(event_stream, Clock(NOW + timedelta(hours=2)))
    ingester.prepare()
    for unit in (gone, stays):
        report(event_stream, unit, *passed(2, "assigned", "activate"))
        report(event_stream, unit, event("activate", at=NOW, id="no id"))
    ingester.step()
    for unit in (gone, stays):
        report(event_stream, unit, *passed(2, "first_inference"))

    call_command("forget_unit", "demo", gone)

    assert capsys.readouterr().out == "forgotten: 2 events, 1 outcomes, 2 waiting batches\n"
    assert set(DeviceEvent.objects.values_list("unit", flat=True)) == {stays}
    assert Exposure.objects.get().unit == stays
    for key in (ingest.STREAM, ingest.DEAD_LETTERS):
        assert [fields[b"unit"].decode() for _, fields in event_stream.xrange(key)] == [stays]
    entry = AuditEntry.objects.get(verb="forget_unit")
    assert gone not in f"{entry.subject} {entry.reason} {entry.before} {entry.after}"


def test_an_application_that_is_not_there_is_refused():
    with pytest.raises(CommandError, match="there is no 'nothing'"):
        call_command("forget_unit", "nothing", "u1")
