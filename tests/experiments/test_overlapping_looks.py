"""Two looks at one experiment at once: a slow one is not over when beat sends the next."""

from datetime import timedelta

import pytest

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
