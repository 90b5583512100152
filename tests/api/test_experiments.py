"""Experiments over REST: what scripts call, and what two of them at once are told."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from distribution import services as releasing
from experiments import analysis
from experiments.models import DeviceEvent, Experiment
from registry.models import AuditEntry, PublishRequest, Role
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]

ROLLOUT = {"slug": "faster", "channel": "production", "model": "digits", "version": 2}


@pytest.fixture
def lab(app):
    """Version 1 live, version 2 ready."""
    first = factories.converted_version(app)
    releasing.publish(channel=app.channels.get(), version=first, actor="ada", now=NOW)
    factories.converted_version(app)
    return app


@pytest.fixture
def people(lab, caller):
    return caller(Role.RELEASER, "ada"), caller(Role.RELEASER, "grace")


def act(who, verb, body=None, slug="faster", tag=None, query="", **headers):
    tag = tag or who("GET", f"experiments/{slug}")["ETag"]
    said = {"reason": "because"} | (body or {})
    return who("POST", f"experiments/{slug}/actions/{verb}{query}", said, If_Match=tag, **headers)


def running(people, **more):
    ada, grace = people
    assert ada("POST", "rollouts", ROLLOUT | more).status_code == 201
    assert act(ada, "submit").status_code == 200
    assert act(grace, "approve").status_code == 200
    started = act(ada, "start")
    assert started.status_code == 200, started.content
    return started


def test_a_rollout_from_draft_to_current(people):
    ada, _ = people
    answer = ada("POST", "rollouts", ROLLOUT | {"steps": [{"percent_bp": 100}], "reason": "smaller"})
    assert answer.status_code == 201, answer.content
    assert answer.json()["state"] == "draft"
    assert answer.json()["arms"][1] == {"name": "control", "version": 1, "control": True, "share_bp": 5000}
    assert answer["ETag"]
    act(ada, "submit")
    assert act(people[1], "approve").json()["state"] == "approved"
    assert act(ada, "start").json()["percent_bp"] == 100
    ramped = act(ada, "ramp", {"to_bp": 2500}).json()
    assert (ramped["phase"], ramped["percent_bp"], ramped["seed"]) == (2, 2500, 1)
    assert act(ada, "complete").json()["state"] == "completed"
    assert ada("GET", "channels/production/releases").json()[0]["version"] == 2


def test_rollouts_are_the_experiments_of_that_kind(people):
    ada, _ = people
    arms = [{"name": "old", "version": 1, "control": True}, {"name": "new", "version": 2}]
    other = {"slug": "compare", "kind": "ab", "channel": "production", "model": "digits", "arms": arms}
    assert ada("POST", "experiments", other).status_code == 201
    ada("POST", "rollouts", ROLLOUT)
    assert [row["slug"] for row in ada("GET", "experiments").json()] == ["faster", "compare"]
    assert [row["slug"] for row in ada("GET", "rollouts").json()] == ["faster"]
    assert ada("GET", "experiments?state=running").json() == []


def test_a_write_names_the_state_it_was_made_from(people):
    ada, _ = people
    running(people)
    tag = ada("GET", "experiments/faster")["ETag"]
    missing = ada("POST", "experiments/faster/actions/halt", {"reason": "r"})
    assert (missing.status_code, missing.json()["code"]) == (428, "if_match_missing")
    assert act(ada, "ramp", {"to_bp": 300}, tag=tag).status_code == 200
    late = act(ada, "halt", tag=tag)
    assert (late.status_code, late.json()["code"]) == (412, "stale")
    assert ada("GET", "experiments/faster").json()["state"] == "running"
    assert ada("PATCH", "experiments/faster", {"hypothesis": "h"}).status_code == 428
    assert ada("POST", "experiments/faster/overrides", {"unit": "u", "arm": "control"}).status_code == 428


def test_a_repeated_key_gets_the_same_answer_and_one_entry(people):
    ada, _ = people
    running(people)
    tag = ada("GET", "experiments/faster")["ETag"]
    first = act(ada, "ramp", {"to_bp": 300}, tag=tag, Idempotency_Key="night-1")
    again = act(ada, "ramp", {"to_bp": 300}, tag=tag, Idempotency_Key="night-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first["ETag"] == again["ETag"]
    assert again["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.filter(verb="ramp_experiment").count() == 1
    other = act(ada, "ramp", {"to_bp": 400}, tag=first["ETag"], Idempotency_Key="night-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_what_is_only_tried_tells_the_difference_and_changes_nothing(people):
    ada, _ = people
    running(people, steps=[{"percent_bp": 1000}])
    heard(400)
    before = ada("GET", "experiments/faster").json()
    rows = (AuditEntry.objects.count(), PublishRequest.objects.count())
    tried = act(ada, "ramp", {"to_bp": 4000}, query="?validate_only=true")
    assert tried.status_code == 200, tried.content
    assert tried.json()["percent_bp"] == 4000
    preview = tried.json()["preview"]
    assert preview["changes"]["phase"][0]["percent_bp"] == 1000
    assert preview["changes"]["phase"][1]["percent_bp"] == 4000
    assert preview["buckets_moved"] == 6000
    assert (preview["units_known"], preview["is_sample"]) == (400, False)
    assert preview["units_moved"] == pytest.approx(400 * 0.3, abs=35)
    assert "ETag" not in tried
    assert ada("GET", "experiments/faster").json() == before
    assert (AuditEntry.objects.count(), PublishRequest.objects.count()) == rows


@pytest.mark.parametrize(
    ("verb", "body", "share"),
    [("pause", {}, 0), ("rollback", {}, 0.4), ("complete", {}, 0.6), ("ramp", {"to_bp": 10_000}, 0.6)],
)
def test_how_many_units_a_verb_would_move(people, verb, body, share):
    running(people, steps=[{"percent_bp": 4000}])
    heard(400)
    preview = act(people[0], verb, body, query="?validate_only=true").json()["preview"]
    assert preview["units_moved"] == pytest.approx(400 * share, abs=40 if share else 0)
    assert Experiment.objects.get().state == "running"


def test_a_draft_can_be_tried_too_and_is_refused_as_it_would_be(people):
    ada, _ = people
    tried = ada("POST", "rollouts?validate_only=true", ROLLOUT)
    assert (tried.status_code, tried.json()["preview"]["changes"]["state"]) == (200, [None, "draft"])
    assert not Experiment.objects.exists()
    refused = ada("POST", "rollouts?validate_only=true", ROLLOUT | {"version": 9})
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (400, "design_refused", "version")


def heard(count, channel=""):
    """Units that reported of the model in the last days."""
    import uuid

    now = datetime.now(UTC)
    DeviceEvent.objects.bulk_create(
        DeviceEvent(
            event_id=uuid.uuid4(),
            application="demo",
            unit=f"unit-{index}",
            received_at=now,
            at=now,
            stage="activate",
            outcome="ok",
            model="digits",
            channel=channel,
        )
        for index in range(count)
    )


def test_refusals_have_their_codes(people):
    ada, grace = people
    assert ada("GET", "experiments/none").json()["code"] == "experiment_not_found"
    ada("POST", "rollouts", ROLLOUT)
    assert ada("POST", "rollouts", ROLLOUT).json()["code"] == "name_taken"
    assert act(ada, "start").json()["code"] == "wrong_state"
    act(ada, "submit")
    own = act(ada, "approve")
    assert (own.status_code, own.json()["code"]) == (403, "own_experiment")
    act(grace, "approve")
    act(ada, "start")
    assert act(ada, "advance").json()["code"] == "step_unmet"
    assert act(ada, "resume").json()["code"] == "class_not_halted"
    missing = ada("POST", "experiments/faster/actions/halt", {}, If_Match="*")
    assert (missing.status_code, missing.json()["field"]) == (400, "reason")
    bad = ada("POST", "rollouts", ROLLOUT | {"slug": "x", "policy": {"alpha": 2}})
    assert (bad.status_code, bad.json()["field"]) == (400, "policy")


def test_status_tells_what_is_lacking(people):
    ada, _ = people
    ada("POST", "rollouts", ROLLOUT)
    assert ada("GET", "experiments/faster/status").json()["decision"] == "inconclusive"
    act(ada, "submit")
    act(people[1], "approve")
    act(ada, "start")
    told = ada("GET", "experiments/faster/status").json()
    assert (told["state"], told["percent_bp"], told["step"], told["steps"]) == ("running", 100, 0, 6)
    assert told["decision"] == "inconclusive"
    assert [reason.split(":")[0] for reason in told["reasons"]] == ["time", "sample", "verdict"]
    lacking = told["lacking"]
    assert 86_000 < lacking.pop("seconds") <= 86_400
    none = {"approvals": 0, "step": False, "is_stopped": False, "withheld": []}
    assert lacking == {"units": 200, "verdict": "inconclusive", **none}
    assert told["arms"][0].items() >= {"units": 0, "activated": 0, "failed": 0, "lost": 0, "heard_at": None}.items()
    assert datetime.fromisoformat(told["next_action_at"]) > datetime.now(UTC) + timedelta(hours=23)
    assert [(arm["name"], arm["version"], arm["expected_share"]) for arm in told["arms"]] == [
        ("treatment", 2, 0.5),
        ("control", 1, 0.5),
    ]
    for verb, decision in (("pause", "hold"), ("halt", "halt"), ("rollback", "rollback")):
        act(ada, verb)
        after = ada("GET", "experiments/faster/status").json()
        assert (after["decision"], after["lacking"]) == (decision, None)


def test_publishing_while_a_rollout_runs_is_answered_with_who_does_not_get_it(people, lab):
    ada, _ = people
    running(people, steps=[{"percent_bp": 2500}])
    third = factories.converted_version(lab)
    told = ada("POST", "channels/production/releases", {"model": "digits", "version": third.number})
    assert told.status_code == 201, told.content
    assert told.json()["warnings"] == [
        "faster keeps 25 % of units on version 2 (treatment) until it ends or is superseded"
    ]
    back = ada("POST", "channels/production/rollback", {"model": "digits", "to_version": 1, "reason": "r"})
    assert back.json()["code"] == "no_earlier_release"  # nothing was live yet: no publisher runs here


def test_explain_draws_a_units_buckets(people):
    ada, _ = people
    running(people, steps=[{"percent_bp": 5000}])
    outcomes = set()
    for index in range(20):
        told = ada("GET", f"experiments/faster/explain?unit=u{index}").json()
        assert told["layer"]["inside"]
        assert told["arm"]["name"] == ("treatment" if told["arm"]["bucket"] < 5000 else "control")
        outcomes.add(told["outcome"])
    assert outcomes == {"in_arm"}
    answer = ada("POST", "experiments/faster/overrides", {"unit": "u1", "arm": "control"}, If_Match="*")
    assert answer.status_code == 200, answer.content
    assert ada("GET", "experiments/faster/explain?unit=u1").json()["outcome"] == "override"
    (row,) = ada("GET", "experiments/faster/overrides").json()
    gone = ada("DELETE", f"experiments/faster/overrides/{row['unit_key']}", If_Match="*")
    assert gone.status_code == 200, gone.content
    assert ada("GET", "experiments/faster/overrides").json() == []
    assert ada("GET", 'experiments/faster/explain?unit="').json()["code"] == "invalid"


def test_results_are_the_looks_that_were_written_down(people):
    ada, _ = people
    running(people)
    assert ada("GET", "experiments/faster/results").json() == []
    experiment = Experiment.objects.get()
    for minute in range(2):
        analysis.look(experiment, timezone.now() + timedelta(hours=2 * minute))
    newest, first = ada("GET", "experiments/faster/results").json()
    assert newest["as_of"] > first["as_of"]
    assert (first["phase"], first["verdict"], first["error"]) == (1, "inconclusive", "")
    assert set(first["results"]["arms"]) == {"treatment", "control"}
    assert first["results"]["arms"]["control"]["funnel"][0]["stage"] == "assigned"
    assert ada("GET", "experiments/faster/results?phase=2").json() == []
    assert ada("GET", "experiments/faster/results?phase=0").json()["field"] == "phase"


def test_changes_are_its_entries_of_the_log(people):
    ada, _ = people
    running(people)
    entries = ada("GET", "experiments/faster/changes").json()
    assert [entry["verb"] for entry in entries] == [
        f"{verb}_experiment" for verb in ("start", "approve", "submit", "create")
    ]
    assert entries[0]["before"]["state"] == "approved"
    assert entries[0]["after"]["phase"]["arms"]["treatment"] == {"version": 2, "ranges": [[0, 100]]}


def test_the_map_of_a_layer(people):
    ada, _ = people
    running(people, layer_range=[2000, 5000])
    layer = Experiment.objects.get().layer
    listed = ada("GET", "layers?model=digits").json()
    assert listed == [{"id": layer.pk, "slug": "default", "channel": "production", "model": "digits", "epoch": 1}]
    told = ada("GET", f"layers/{layer.pk}/map").json()
    assert [(row["experiment"], row["range"]) for row in told["held"]] == [("faster", [2000, 5000])]
    assert told["free"] == [[0, 2000], [5000, 10_000]]
    assert ada("GET", "layers/999/map").status_code == 404


def test_how_many_units_a_holdback_would_hold(people):
    ada, _ = people
    heard(400)
    path = "channels/production/models/digits/holdback"
    body = {"version": 1, "percent_bp": 2500, "reason": "r"}
    tried = ada("PUT", f"{path}?validate_only=true", body, If_Match="*")
    assert tried.status_code == 200, tried.content
    preview = tried.json()["preview"]
    assert (preview["buckets_moved"], preview["units_known"]) == (2500, 400)
    assert preview["units_moved"] == pytest.approx(100, abs=35)
    assert ada("GET", path).status_code == 404
    ada("PUT", path, body, If_Match="*")
    wider = ada("PUT", f"{path}?validate_only=true", body | {"percent_bp": 3000}, If_Match="*").json()["preview"]
    assert (wider["buckets_moved"], wider["units_moved"] < 50) == (500, True)
    other = ada("PUT", f"{path}?validate_only=true", body | {"version": 2}, If_Match="*").json()["preview"]
    assert other["units_moved"] == preview["units_moved"], "the slice that was tried is the one that is kept"


def test_what_a_plan_would_see(people):
    ada, _ = people
    ada("POST", "rollouts", ROLLOUT | {"steps": [{"percent_bp": 5000, "min_units": 150}, {"percent_bp": 10_000}]})
    heard(400)
    told = ada("GET", "experiments/faster/detectable").json()
    assert (told["units"], told["baseline"]["is_assumed"]) == (400, True)
    first = told["steps"][0]
    assert (first["treatment_units"], first["control_units"], first["is_reachable"]) == (200, 200, True)
    assert {"crash", "funnel", "latency"} <= {sight["name"] for sight in first["guardrails"]}
    assert min(need["units_per_arm"] for need in told["needed"] if need["units_per_arm"]) > 100


def test_units_of_another_channel_are_none_of_this_one(people):
    ada, _ = people
    ada("POST", "rollouts", ROLLOUT)
    heard(10, channel="beta")
    heard(3, channel="production")
    assert ada("GET", "experiments/faster/detectable").json()["units"] == 3


def test_a_holdback_is_made_changed_and_lifted(people):
    ada, _ = people
    path = "channels/production/models/digits/holdback"
    assert ada("GET", path).json()["code"] == "not_held_back"
    body = {"version": 1, "reason": "to compare with"}
    assert ada("PUT", path, body).status_code == 428
    made = ada("PUT", path, body, If_Match="*")
    assert (made.status_code, made.json()["range"]) == (200, [0, 200]), made.content
    assert ada("PUT", path, body | {"percent_bp": 300}, If_Match='"0.0"').status_code == 412
    assert ada("PUT", path, body | {"percent_bp": 300}, If_Match=made["ETag"]).json()["percent_bp"] == 300
    assert [row["channel"] for row in ada("GET", "holdbacks?model=digits").json()] == ["production"]
    tag = ada("GET", path)["ETag"]
    tried = ada("DELETE", f"{path}?reason=fix&validate_only=true", If_Match=tag)
    assert (tried.status_code, tried.json()["preview"]["buckets_moved"], "ETag" in tried) == (200, 300, False)
    gone = [ada("DELETE", f"{path}?reason=fix", If_Match=tag, Idempotency_Key="fix-1") for _ in range(2)]
    assert [answer.status_code for answer in gone] == [200, 200]
    assert ada("GET", "holdbacks").json() == []
    assert ada("GET", path).status_code == 404
    assert AuditEntry.objects.filter(verb="lift_holdback").get().reason == "fix"
