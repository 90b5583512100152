"""What every write of experiments must do, whichever it is: a new one that forgets it fails here."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction

from experiments.api.serializers import WriteQuery
from experiments.models import Experiment
from registry.api.base import NounView
from registry.models import AuditEntry, IdempotencyKey, Role
from registry.services.webhooks import notify
from tests.api.routes import EXAMPLES, patterns
from tests.api.test_experiments import ROLLOUT, act, lab, people, running
from tests.deploy.waiting import until
from tests.factories import NOW

__all__ = ["lab", "people"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]

# What makes something new has no state that it was made from; forgetting a unit is of no experiment.
WITHOUT_IF_MATCH = {("POST", "experiments"), ("POST", "rollouts"), ("POST", "units/forget")}
WITHOUT_TRIAL = {("POST", "units/forget")}
# Bodies that would be taken in the right state.
BODIES = {
    "experiments/faster": {"hypothesis": "smaller"},
    "experiments/faster/actions/ramp": {"to_bp": 300, "reason": "r"},
    "experiments/faster/actions/supersede": {"version": 2, "reason": "r"},
    "experiments/faster/overrides": {"unit": "u", "arm": "treatment"},
    "channels/production/models/digits/holdback": {"version": 1, "percent_bp": 300, "reason": "r"},
}


def writes():
    """(method, path below the application, what the view says of it), read from the URL resolver."""
    for path, callback in patterns():
        view = getattr(callback, "view_class", NounView)
        if path.startswith("api/v1/applications/") and view.__module__.startswith("experiments."):
            named = path.replace("<slug:", "{").replace("<int:", "{").replace(">", "}").format(**EXAMPLES)
            for method, verb in view.verbs.items():
                if method != "GET":
                    yield method, named.removeprefix("api/v1/applications/demo/"), verb


WRITES = {(method, path): verb for method, path, verb in writes()}


def test_they_are_all_found():
    assert len(WRITES) >= 22
    assert WITHOUT_IF_MATCH - {("POST", "units/forget")} <= set(WRITES)


def test_each_takes_a_key_a_reason_and_can_be_tried():
    for (method, path), verb in WRITES.items():
        if (method, path) in WITHOUT_TRIAL:
            continue
        query = verb.query() if verb.query else None
        said = {*(verb.body().fields if verb.body else ()), *(query.fields if query else ())}
        assert (verb.idempotent, {"reason", *WriteQuery().fields} <= said) == (True, True), f"{method} {path}"


def test_each_needs_if_match_and_none_does_anything_at_another_state(people):
    ada, _ = people
    assert ada("POST", "rollouts", ROLLOUT).status_code == 201
    holdback = "channels/production/models/digits/holdback"
    assert ada("PUT", holdback, BODIES[holdback], If_Match="*").status_code == 200
    entries, found = AuditEntry.objects.count(), {}
    for method, path in set(WRITES) - WITHOUT_IF_MATCH:
        body = None if method == "DELETE" else BODIES.get(path, {"reason": "r"})
        missing, late = ada(method, path, body), ada(method, path, body, If_Match='"0.0"')
        found[method, path] = (
            missing.status_code,
            missing.json().get("code"),
            late.status_code,
            late.json().get("code"),
        )
    assert set(found.values()) == {(428, "if_match_missing", 412, "stale")}, found
    assert AuditEntry.objects.count() == entries


def at_once(count, work):
    """The answers of `count` threads that begin together, each on its own connection to PostgreSQL."""
    barrier = Barrier(count)

    def one(index):
        try:
            connection.ensure_connection()
            barrier.wait(300)
            return work(index)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("ramp", {"to_bp": 300}), ("ramp", {"to_bp": 400})),
        (("ramp", {"to_bp": 300}), ("halt", {})),
        (("rollback", {}), ("complete", {})),
    ],
)
def test_of_two_scripts_at_one_state_one_is_told_412(people, first, second):
    running(people)
    tag = people[0]("GET", "experiments/faster")["ETag"]
    said = (first, second)
    answers = at_once(2, lambda index: act(people[index], *said[index], tag=tag))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    refused = next(answer for answer in answers if answer.status_code == 412)
    assert refused.json()["code"] == "stale"
    verbs = [f"{verb}_experiment" for verb, _ in said]
    assert AuditEntry.objects.filter(verb__in=verbs).count() == 1


def test_of_eight_scripts_at_one_state_one_goes_on_each_time(people):
    running(people)
    for round_number in range(3):
        tag = people[0]("GET", "experiments/faster")["ETag"]
        percents = [{"to_bp": 200 + 100 * (8 * round_number + index)} for index in range(8)]
        answers = at_once(
            8, lambda index, tag=tag, wanted=percents: act(people[index % 2], "ramp", wanted[index], tag=tag)
        )
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    assert AuditEntry.objects.filter(verb="ramp_experiment").count() == 3
    assert Experiment.objects.get().phases.count() == 4


def test_of_eight_that_make_one_of_the_same_name_one_does(people):
    assert people[0]("POST", "rollouts", ROLLOUT | {"slug": "first"}).status_code == 201  # makes the layer
    answers = at_once(8, lambda index: people[index % 2]("POST", "rollouts", ROLLOUT))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"name_taken", "conflict"}
    assert Experiment.objects.count() == AuditEntry.objects.filter(verb="create_experiment").count() == 2


def test_who_changes_a_webhook_and_who_tells_it_of_an_event_do_not_wait_for_each_other(app, caller):
    """A verb holds the audit log when it writes its messages; a change holds the row when it waits for the log."""
    who = caller(Role.ADMINISTRATOR)
    assert who("POST", "webhooks", {"name": "ops", "url": "https://hooks.example.com/"}).status_code == 201
    tag = who("GET", "webhooks/ops")["ETag"]

    def change():
        try:
            return who("PUT", "webhooks/ops", {"url": "https://other.example.com/"}, If_Match=tag).status_code
        finally:
            connection.close()

    def is_the_log_waited_for():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return cursor.fetchone()[0]

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            AuditEntry.record(now=NOW, actor="ada", verb="tell", subject="demo")
            changing = pool.submit(change)
            until(is_the_log_waited_for, "the change to wait for the log")
            assert notify(application=app, event_type="rollout.held", subject="s", data={}, now=NOW)
        assert changing.result() == 200


def test_one_key_sent_eight_times_at_once_is_one_entry_and_one_answer(people):
    running(people)
    tag = people[0]("GET", "experiments/faster")["ETag"]
    said = {"tag": tag, "Idempotency_Key": "night-1"}
    answers = at_once(8, lambda _: act(people[0], "ramp", {"to_bp": 300}, **said))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.content for answer in answers}) == len({answer["ETag"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer for answer in answers) == 7
    assert AuditEntry.objects.filter(verb="ramp_experiment").count() == 1


def test_what_is_tried_keeps_no_key_and_the_same_key_then_does_it(people):
    ada, _ = people
    running(people)
    said = {"tag": ada("GET", "experiments/faster")["ETag"], "Idempotency_Key": "night-1"}
    for _ in range(2):
        tried = act(ada, "ramp", {"to_bp": 300}, query="?validate_only=true", **said)
        assert (tried.status_code, tried.json()["percent_bp"], "Idempotent-Replayed" in tried) == (200, 300, False)
    assert not IdempotencyKey.objects.filter(key="night-1").exists()
    done = act(ada, "ramp", {"to_bp": 300}, **said)
    assert (done.status_code, done.json().get("code"), done.json()["preview"]) == (200, None, None)
    assert Experiment.objects.get().phase.percent_bp == 300


def test_every_verb_is_answered_the_same_when_its_key_is_sent_again(people):
    ada, grace = people
    heard = []

    def twice(who, method, path, body=None):
        tag = who("GET", "experiments/faster").get("ETag", "*")
        both = [who(method, path, body, If_Match=tag, Idempotency_Key=f"{method} {path}") for _ in range(2)]
        assert both[0].status_code in (200, 201), both[0].content
        assert (both[1].status_code, both[1].json()) == (both[0].status_code, both[0].json()), path
        heard.append((method, path))

    def action(who, verb, **body):
        twice(who, "POST", f"experiments/faster/actions/{verb}", {"reason": "r"} | body)

    twice(ada, "POST", "rollouts", ROLLOUT | {"steps": [{"percent_bp": 100, "needs_approval": True}]})
    twice(ada, "PATCH", "experiments/faster", BODIES["experiments/faster"])
    action(ada, "submit")
    action(grace, "reject")
    assert act(ada, "submit").status_code == act(grace, "approve").status_code == 200
    action(ada, "start")
    action(grace, "approve-step")
    action(ada, "ramp", to_bp=300)
    action(ada, "pause")
    action(ada, "resume")
    action(ada, "supersede", version=2)
    action(ada, "rerandomise")
    action(ada, "halt")
    action(ada, "rollback")
    action(ada, "archive")
    assert AuditEntry.objects.filter(subject="experiment demo/faster").count() == len(heard) + 2
