"""Two looks at one experiment at once: a slow one is not over when beat sends the next."""

from datetime import timedelta

import psycopg2
import pytest
from django.conf import settings
from django.db import connection

from experiments import analysis
from experiments.models import Experiment, Exposure
from registry.models import AuditEntry
from tests.experiments import measured
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]


def crashing(of, arm, every):
    Exposure.objects.bulk_create(
        Exposure(phase=of.phase, unit=f"{name}-{arm}-{index}", arm=arm, device_class=name, day=NOW.date(),
                 assigned_at=NOW, heard_at=NOW, reached=8, progressed_at=NOW, os="android",
                 crashed_at=NOW if index % (every if name == "low" else 300) == 0 else None)
        for name in ("low", "high") for index in range(1000)
    )  # fmt: skip


def test_a_class_is_halted_once(caplog):
    of = measured.experiment()
    crashing(of, "treatment", 20)
    crashing(of, "control", 100)
    slow, fast = (Experiment.objects.get(pk=of.pk) for _ in range(2))
    assert analysis.look(fast, NOW + timedelta(hours=2)).classes == ["low"]
    assert analysis.look(slow, NOW + timedelta(hours=2)).classes == ["low"]
    assert AuditEntry.objects.filter(verb="halt_experiment").count() == 1
    assert "verdict not applied" in caplog.text
    of.refresh_from_db()
    assert (of.state, of.halted_classes) == ("running", ["low"])


def test_all_are_looked_at_by_one_process_at_a_time(caplog):
    measured.experiment()
    other = psycopg2.connect(**connection.get_connection_params() | {"cursor_factory": None})
    with other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 0)", [analysis.LOOKS_LOCK])
        assert analysis.look_at_all(NOW + timedelta(hours=2)) == 0
        assert "looks take longer than the time between them" in caplog.text
        cursor.execute("SELECT pg_advisory_unlock(%s, 0)", [analysis.LOOKS_LOCK])
    other.close()
    assert analysis.look_at_all(NOW + timedelta(hours=2)) == 1
    assert analysis.look_at_all(NOW + timedelta(hours=3)) == 1


def test_what_beat_asks_for_expires_once_it_is_asked_for_again():
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        seconds = entry["schedule"].total_seconds()
        assert seconds < entry["options"]["expires"] <= seconds + 60, name
