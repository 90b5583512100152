"""What webhooks hear of experiments: each verb that devices notice, once, and nothing of a verb that was refused."""

import json

import pytest

from experiments import errors
from experiments.announcing import announce_hold
from registry.models import WebhookDelivery
from registry.services import webhooks
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
