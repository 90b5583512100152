"""The audit log rebuilds every experiment, whatever was said to it, and shows what was changed in it."""

from datetime import timedelta
from random import Random

import pytest
from django.db import connection

from experiments import services
from experiments.lifecycle import LIVE, TRANSITIONS, Verb
from experiments.models import Experiment
from experiments.replaying import LogGap, rebuild
from registry.errors import DomainError
from registry.models import AuditEntry
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

LAST = {"percent_bp": 9500, "monitored": False}
# What ends or takes back is said less often: otherwise nothing runs for long.
SELDOM = ("edit", "reject", "rollback", "complete", "archive", "follow")
SAID = [*SELDOM, *2 * sorted({*Verb, "set_override", "clear_override"} - set(SELDOM))]


def test_replaying_the_audit_log_rebuilds_every_experiment(lab):
    first = lab.running(lab.ab("first", layer_range=(0, 4000)))
    lab.do("ramp", first, to_bp=100)
    lab.do("halt", first, device_class="everything-else")
    services.set_override(experiment=first, unit="u", arm="new", **lab.said())
    lab.do("halt", first)
    lab.do("resume", first)
    second = lab.running(lab.ab("second", layer_range=(4000, 10_000)))
    lab.do("complete", second, winner="new")
    lab.do("archive", second)
    lab.approved(lab.ab("third"))
    rebuilt = rebuild(entry_facts())
    assert rebuilt == {services.subject(row): services.told(row) for row in Experiment.objects.all()}
    assert AuditEntry.first_broken() is None


def test_a_random_walk_of_all_verbs_can_be_replayed(lab):
    """Refused ones included, which leave nothing behind."""
    factories.converted_version(lab.app)
    walk = Walk(lab, Random(20261123))
    while walk.done != {*SAID, "create"}:
        for _ in range(30):
            walk.step()
        services.expire_exceptions(lab.clock.advance(minutes=1))
        assert rebuild(entry_facts()) == {services.subject(row): services.told(row) for row in Experiment.objects.all()}
        assert walk.steps < 600, f"never said: {set(SAID) - walk.done}"
    assert walk.refused > 10
    assert AuditEntry.first_broken() is None


class Walk:
    """Somebody says anything at any time."""

    def __init__(self, lab, chance):
        self.lab, self.chance = lab, chance
        self.done, self.refused, self.steps = set(), 0, 0

    def step(self):
        self.steps += 1
        rows = list(Experiment.objects.exclude(state="archived"))
        verb, row = "create", None
        if len(rows) >= 3 and self.chance.random() < 0.9:
            live = [row for row in rows if row.state in LIVE]
            row = self.chance.choice([*live, *live, *rows[:3]])
            verb = self.chance.choice(self.rather(row))
        try:
            self.create() if row is None else self.say(verb, row)
        except DomainError:
            self.refused += 1
        else:
            self.done.add(verb)

    def rather(self, row):
        """Mostly what fits the state, of that what was never said, and seldom what ends it."""
        fitting = [said for said in SAID if (said, row.state) in TRANSITIONS]
        if not fitting or self.chance.random() < 0.3:
            return SAID
        unsaid = [said for said in fitting if said not in self.done]
        return unsaid or [said for said in fitting if said not in SELDOM] or fitting

    def create(self):
        first = self.chance.choice((0, 3000, 6000))
        said = {
            "slug": f"e{Experiment.objects.count()}",
            "layer": self.chance.choice(("default", "blue", "green")),
            "layer_range": (first, first + self.chance.choice((3000, 4000))),
            "steps": [{"percent_bp": 1000, "monitored": False, "needs_approval": self.chance.random() < 0.3}, LAST],
        }
        if self.chance.random() < 0.6:
            self.lab.rollout(version=self.chance.choice((1, 2, 3)), **said)
        else:
            self.lab.ab(**said)

    def say(self, verb, row):
        versions = self.lab.model.versions
        if verb == "clear_override":
            row = Experiment.objects.filter(overrides__isnull=False).first() or row
        arguments = {
            "ramp": lambda: {"to_bp": self.chance.randrange(0, 10_001, 500)},
            "edit": lambda: {"hypothesis": str(self.chance.random())},
            "supersede": lambda: {"version": self.chance.choice((2, 3)), "arm": self.chance.choice((None, "new"))},
            "follow": lambda: {"version": self.chance.choice([None, *versions.all()])},
            "halt": lambda: {"device_class": self.chance.choice((None, "everything-else"))},
            "complete": lambda: {"winner": self.chance.choice((None, "new", "treatment"))},
            "set_override": lambda: {
                "unit": self.chance.choice("uvw"),
                "arm": row.arms[1]["name"],
                "expires_at": self.chance.choice((None, self.lab.clock() + timedelta(minutes=1))),
            },
            "clear_override": lambda: {"unit_key": getattr(row.overrides.first(), "unit_key", "none")},
        }.get(verb, dict)()
        if verb == "follow" and row.kind != "rollout":
            return
        said = self.lab.said(self.chance.choice(("ada", "grace", "hedy", "ines")), reason="a walk")
        getattr(services, verb)(experiment=row, **said, **arguments)


def test_a_row_of_the_log_that_was_edited_breaks_the_chain_and_the_replay(lab):
    experiment = lab.running()
    lab.do("ramp", experiment, to_bp=300)
    lab.do("ramp", experiment, to_bp=400)
    forged = AuditEntry.objects.filter(verb="ramp_experiment").order_by("id").first()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE registry_auditentry DISABLE TRIGGER refuse_change")
        try:
            AuditEntry.objects.filter(pk=forged.pk).update(after={**forged.after, "state": "halted"})
        finally:
            cursor.execute("ALTER TABLE registry_auditentry ENABLE TRIGGER refuse_change")
    assert AuditEntry.first_broken() == forged
    with pytest.raises(LogGap, match="expected the state that the entry before it left"):
        rebuild(entry_facts())


def entry_facts():
    return AuditEntry.objects.order_by("id").values_list("subject", "before", "after")
