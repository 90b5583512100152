"""What webhooks hear of experiments: each verb that devices notice, once, and nothing of a verb that was refused."""

import json
from datetime import timedelta

import pytest

from experiments import analysis, errors
from experiments.announcing import announce_hold
from experiments.models import AnalysisRun, Exposure
from registry.models import WebhookDelivery
from registry.services import webhooks
from tests.experiments import measured
from tests.experiments.test_analysis import exposed
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard(lab):
    """The events so far, oldest first."""
    webhooks.create_webhook(
        application=lab.app, name="ops", url="https://hooks.example.com/", event_types=[], actor="ada", now=NOW
    )
    return lambda: [json.loads(row.body) for row in WebhookDelivery.objects.order_by("id")]


def test_a_rollout_tells_its_story(lab, heard):
    experiment = lab.running()
    lab.do("ramp", experiment, to_bp=2000)
    lab.do("pause", experiment)
    lab.do("halt", experiment)
    lab.do("rollback", experiment)
    told = heard()
    assert [event["type"] for event in told] == [
        "rollout.started", "rollout.advanced", "rollout.halted", "rollout.rolled_back",
    ]  # fmt: skip
    assert told[1]["data"]["percent_bp"] == 2000
    assert (told[2]["data"]["by"], told[2]["data"]["reason"]) == ("ada", "because")
    assert (told[3]["data"]["state"], told[3]["data"]["experiment"]) == ("rolled_back", experiment.slug)


def test_a_refused_verb_tells_nothing(lab, heard):
    experiment = lab.running()
    before = heard()
    with pytest.raises(errors.WrongState):
        lab.do("submit", experiment)
    assert heard() == before


def test_completing_and_holding_are_told(lab, heard):
    experiment = lab.running()
    announce_hold(experiment, ["no data for 24 h"], NOW)
    announce_hold(experiment, ["no data for 24 h"], NOW)
    lab.do("complete", experiment)
    assert [event["type"] for event in heard()] == ["rollout.started", "rollout.held", "rollout.completed"]
    assert heard()[1]["data"]["reasons"] == ["no data for 24 h"]


class TestHeldByGuardrails:
    """What an analysis that turns to hold tells, and how often."""

    HELD = {"reached": 1, "failed": 2}

    @pytest.fixture
    def of(self):
        made = measured.experiment()
        webhooks.create_webhook(
            application=made.application, name="ops", url="https://hooks.example.com/", event_types=[], actor="ada",
            now=NOW,
        )  # fmt: skip
        exposed(made, "control", 3000)
        exposed(made, "treatment", 2850)
        exposed(made, "treatment", 150, 2850, **self.HELD)
        return made

    @staticmethod
    def looks(of, *hours):
        return [analysis.look(of, NOW + timedelta(hours=hour)).verdict for hour in hours]

    @staticmethod
    def told():
        rows = WebhookDelivery.objects.filter(event_type="rollout.held").order_by("id")
        return [json.loads(row.body)["data"] for row in rows]

    def test_a_hold_is_told_once_while_it_stays(self, of):
        assert self.looks(of, 2, 3, 4) == ["hold"] * 3
        exposed(of, "treatment", 20, 3000, **self.HELD)
        exposed(of, "control", 20, 3000)
        assert self.looks(of, 5) == ["hold"]
        assert AnalysisRun.objects.of(of).count() == 4, "each look found another thing or an hour went by"
        (told,) = self.told()
        assert told["reasons"][0].startswith("funnel")
        assert (told["experiment"], told["state"]) == (of.slug, "running")

    def test_one_that_went_on_and_is_held_again_is_told_again(self, of):
        assert self.looks(of, 2) == ["hold"]
        stuck = Exposure.objects.filter(failed__gt=0)
        stuck.update(reached=8, failed=0)
        assert self.looks(of, 4) == ["advance"]
        Exposure.objects.filter(arm="treatment", unit__gt="treatment-2").update(**self.HELD)
        assert self.looks(of, 6, 8) == ["hold"] * 2
        assert len(self.told()) == 2

    def test_a_look_that_failed_in_between_ends_no_hold(self, of, monkeypatch):
        assert self.looks(of, 2) == ["hold"]
        with monkeypatch.context() as patch:
            patch.setattr(analysis, "count", lambda *_: 1 / 0)
            assert self.looks(of, 3) == ["inconclusive"]
        assert self.looks(of, 4) == ["hold"]
        assert len(self.told()) == 1

    def test_an_analysis_that_fails_again_and_again_holds_and_tells_once(self, of, monkeypatch):
        Exposure.objects.all().delete()
        monkeypatch.setattr(analysis, "count", lambda *_: 1 / 0)
        assert self.looks(of, 2, 3, 4, 5, 6)[-2:] == ["hold"] * 2
        (told,) = self.told()
        assert told["reasons"] == ["the analysis failed 4 times in a row", "the analysis failed: division by zero"]
