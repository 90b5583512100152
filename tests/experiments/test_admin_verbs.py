"""The admin's pages that act on experiments: the same as REST does, shown before it is done, to whom it may be."""

import html
import json
import re

import pytest
from django.test import Client
from django.urls import reverse

from experiments import services
from experiments.admin.verbs import NEEDS_REASON, PAGES
from experiments.api.actions import VERBS
from experiments.lifecycle import OF_ANOTHER_PERSON, ROLES, State, Verb
from experiments.models import Experiment
from registry.models import AuditEntry, PublishRequest, Role
from registry.services import grant
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = [
    {"percent_bp": 1000, "monitored": False, "needs_approval": True},
    {"percent_bp": 5000, "monitored": False},
]
FREE = [{**step, "needs_approval": False} for step in AT_ONCE]
HOSTILE = '"><script>alert(1)</script>'
# Where each verb is said from, and with what: (the verbs that lead there, of the page's address, of REST's body).
CASES = {
    Verb.SUBMIT: ((), {}, {}),
    Verb.APPROVE: (("submit",), {}, {}),
    Verb.REJECT: (("submit",), {}, {}),
    Verb.START: (("submit", "approve"), {}, {}),
    Verb.PAUSE: (("submit", "approve", "start"), {}, {}),
    Verb.RESUME: (("submit", "approve", "start", "pause"), {}, {}),
    Verb.ADVANCE: (("submit", "approve", "start", "approve_step"), {}, {}),
    Verb.APPROVE_STEP: (("submit", "approve", "start"), {}, {}),
    Verb.RAMP: (("submit", "approve", "start"), {"to": "12.34"}, {"to_bp": 1234}),
    Verb.SUPERSEDE: (
        ("submit", "approve", "start"),
        {"version": "3", "arm": "treatment"},
        {"version": 3, "arm": "treatment"},
    ),
    Verb.RERANDOMISE: (("submit", "approve", "start"), {}, {}),
    Verb.HALT: (("submit", "approve", "start"), {"device_class": "android-high"}, {"device_class": "android-high"}),
    Verb.ROLLBACK: (("submit", "approve", "start"), {}, {}),
    Verb.COMPLETE: (("submit", "approve", "start"), {"winner": "treatment"}, {"winner": "treatment"}),
    Verb.ARCHIVE: (("submit", "approve", "start", "rollback"), {}, {}),
}


def member(lab, name, role=Role.RELEASER, *, csrf=False):
    """Signed in to the admin, with a role in the application."""
    user = factories.user(name)
    user.is_staff = True
    user.save()
    if role is not None:
        grant(application=lab.app, user=user, role=role, actor="tests", now=NOW)
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user)
    client.user = user
    return client


def prepared(lab, verb, **more):
    """A rollout in the state that the verb is said from."""
    if 3 not in lab.versions:
        lab.versions[3] = factories.converted_version(lab.app)
    row = lab.rollout(**{"steps": AT_ONCE, **more})
    for each in CASES[verb][0]:
        lab.do(each, row, "mary" if Verb(each) in OF_ANOTHER_PERSON else "ada")
    return row


def page_of(row, verb, query=None):
    address = reverse(f"admin:experiments_experiment_{verb.value.replace('_', '-')}", args=[row.pk])
    return address + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")


def hidden(content):
    """What the page carries of the state that it showed."""
    return dict(re.findall(r'<input type="hidden" name="(row_version|entry)" value="(\d+)"', content))


def say(client, row, verb, query=None, reason="because", **changed):
    """Open the page, and press its button."""
    address = page_of(row, verb, query)
    shown = client.get(address).content.decode()
    return client.post(address, {**hidden(shown), "reason": reason, **changed})


def entry_of(row):
    return services.changes(row).first()


def told(entry, row):
    """An entry without what one experiment has and another one has not."""
    document = json.dumps({"before": entry.before, "after": entry.after, "verb": entry.verb, "reason": entry.reason})
    found = json.loads(document.replace(row.slug, "NAME"))
    for side in ("before", "after"):
        found[side].pop("layer_range")
    return found


@pytest.mark.parametrize("verb", CASES)
def test_a_page_does_what_rest_does_and_writes_the_same_line(lab, verb):
    _, query, body = CASES[verb]
    by_page = prepared(lab, verb, slug="one", layer_range=(0, 5000))
    by_rest = prepared(lab, verb, slug="two", layer_range=(5000, 10_000))
    grace = member(lab, "grace")
    for row in (by_page, by_rest):
        row.refresh_from_db()
    answer = say(grace, by_page, verb, query)
    assert answer.status_code == 302, answer.content.decode()
    assert answer["Location"] == reverse("admin:experiments_experiment_change", args=[by_page.pk])
    bearer = Client(headers={"Authorization": f"Bearer {factories.token(grace.user)}"})
    address = "/api/v1/applications/demo/experiments/two"
    tag = bearer.get(address)["ETag"]
    sent = bearer.post(
        f"{address}/actions/{verb.value.replace('_', '-')}",
        json.dumps({"reason": "because", **body}),
        content_type="application/json",
        headers={"If-Match": tag},
    )
    assert sent.status_code == 200, sent.content
    assert told(entry_of(by_page), by_page) == told(entry_of(by_rest), by_rest)
    assert entry_of(by_page).actor == "grace"


def test_every_verb_has_a_page_and_asks_for_a_reason_where_rest_does():
    assert set(PAGES) == set(VERBS) == set(CASES)
    assert {Verb.HALT, Verb.ROLLBACK, Verb.RAMP, Verb.PAUSE, Verb.REJECT} <= NEEDS_REASON
    assert Verb.APPROVE not in NEEDS_REASON


@pytest.mark.parametrize("verb", CASES)
def test_looking_at_a_page_shows_what_would_change_and_changes_nothing(lab, verb):
    row = prepared(lab, verb)
    grace = member(lab, "grace")
    counts = AuditEntry.objects.count(), PublishRequest.objects.count(), services.told(row)
    page = grace.get(page_of(row, verb, CASES[verb][1])).content.decode()
    assert "What it means" in page
    assert PAGES[verb].label in page
    assert "Not possible now" not in page
    row.refresh_from_db()
    assert counts == (AuditEntry.objects.count(), PublishRequest.objects.count(), services.told(row))


def test_the_page_tells_units_and_percentages_before_and_after(lab):
    row = prepared(lab, Verb.RAMP, steps=FREE)
    page = member(lab, "grace").get(page_of(row, Verb.RAMP, {"to": "25"})).content.decode()
    assert re.search(r"Percentage.*?10 %.*?25 %", page, re.DOTALL)
    assert "3000 of 10000 buckets change their arm" in page
    assert "Ramp to 25 %" in page


def test_without_a_fix_superseding_says_what_is_lacking(lab):
    row = lab.running(steps=FREE)
    page = member(lab, "grace").get(page_of(row, Verb.SUPERSEDE)).content.decode()
    assert "there is none yet: upload the fix" in page
    assert "This field is required" not in page


def test_the_percentage_is_proposed_from_the_plan_and_taken_as_people_write_it(lab):
    row = prepared(lab, Verb.RAMP, steps=FREE)
    grace = member(lab, "grace")
    assert "Ramp to 50 %" in grace.get(page_of(row, Verb.RAMP)).content.decode()
    assert say(grace, row, Verb.RAMP, {"to": "12,5 %25"}).status_code == 302
    assert Experiment.objects.get().phase.percent_bp == 1250


@pytest.mark.parametrize("written", ["101", "-1", "abc", "1.234", ""])
def test_a_wrong_percentage_is_told_at_its_field_and_nothing_is_done(lab, written):
    row = prepared(lab, Verb.RAMP, steps=FREE)
    grace = member(lab, "grace")
    answer = grace.post(page_of(row, Verb.RAMP, {"to": written}), {"row_version": row.row_version, "reason": "x"})
    assert answer.status_code == 200
    assert answer.context["ask"].errors["to"]
    assert Experiment.objects.get().phase.percent_bp == 1000


# -- who may


@pytest.mark.parametrize("verb", CASES)
def test_a_page_needs_the_role_that_rest_needs(lab, verb):
    row = prepared(lab, verb)
    for role in (Role.VIEWER, Role.EDITOR):
        client = member(lab, role.label, role)
        allowed = ROLES[verb] == role.label
        address = page_of(row, verb, CASES[verb][1])
        assert client.get(address).status_code == (200 if allowed else 403)
        if not allowed:
            before = services.told(row)
            assert client.post(address, {"row_version": row.row_version, "reason": "x"}).status_code == 403
            row.refresh_from_db()
            assert services.told(row) == before


def test_an_author_cannot_approve_and_is_told_why(lab):
    row = prepared(lab, Verb.APPROVE)
    ada = member(lab, "ada")
    page = html.unescape(ada.get(page_of(row, Verb.APPROVE)).content.decode())
    assert "expected approval by somebody else than ada" in page
    answer = ada.post(page_of(row, Verb.APPROVE), {"row_version": row.row_version, "reason": ""})
    assert "expected approval by somebody else than ada" in html.unescape(answer.content.decode())
    row.refresh_from_db()
    assert row.state == State.IN_REVIEW


def offers_in(client, row):
    """Label -> why not, as the experiment's page shows them."""
    context = client.get(reverse("admin:experiments_experiment_change", args=[row.pk])).context
    return {offer.label: offer.why_not for offer in context["verbs"]}


def test_what_the_table_allows_is_offered_and_what_the_person_may_not_is_disabled_with_the_reason(lab):
    row = prepared(lab, Verb.APPROVE)
    ada, grace, eve = member(lab, "ada"), member(lab, "grace"), member(lab, "eve", Role.VIEWER)
    assert offers_in(grace, row) == {"Edit": "", "Approve": "", "Reject": ""}
    assert offers_in(ada, row)["Approve"] == "somebody else must say it: you wrote it, edited it, or asked for it"
    assert offers_in(eve, row)["Reject"] == "needs the role releaser in demo"
    lab.do("approve", row, "mary")
    lab.do("start", row)
    offers = offers_in(grace, row)
    assert set(offers) == {"Pause", "Advance", "Approve step", "Ramp", "Supersede", "Re-randomise", "Halt", "Roll back",
                           "Complete"}  # fmt: skip
    assert {label for label, why_not in offers.items() if why_not} == {"Advance"}
    assert "1 more must approve" in offers["Advance"]
    page = html.unescape(grace.get(reverse("admin:experiments_experiment_change", args=[row.pk])).content.decode())
    assert "1 more must approve" in page


def test_after_a_halt_going_on_is_asked_for_and_approved_by_another(lab):
    row = prepared(lab, Verb.HALT)
    ada, grace = member(lab, "ada"), member(lab, "grace")
    assert say(ada, row, Verb.HALT, {"device_class": "android-high"}).status_code == 302
    assert "Approve" not in offers_in(grace, row)
    assert say(ada, row, Verb.RESUME).status_code == 302
    offers = offers_in(ada, row)
    assert offers["Approve"].startswith("somebody else")
    assert "Resume" not in offers
    assert say(grace, row, Verb.APPROVE).status_code == 302
    row.refresh_from_db()
    assert (row.state, row.halted_classes) == (State.RUNNING, [])


# -- halting is quick


def test_halting_takes_two_clicks(lab):
    row = prepared(lab, Verb.HALT)
    grace = member(lab, "grace")
    offers = grace.get(reverse("admin:experiments_experiment_change", args=[row.pk])).context["verbs"]
    form = grace.get(next(offer.url for offer in offers if offer.label == "Halt")).context["form"]
    answer = grace.post(page_of(row, Verb.HALT), {name: field.value() for name, field in named(form)})
    assert answer.status_code == 302
    row.refresh_from_db()
    assert (row.state, row.state_reason) == (State.HALTED, "halted by hand to look into it")


def named(form):
    return [(field.name, field) for field in form]


# -- what somebody else did meanwhile


def test_a_stale_page_says_who_did_what_and_does_nothing(lab):
    row = prepared(lab, Verb.RAMP)
    grace = member(lab, "grace")
    address = page_of(row, Verb.RAMP, {"to": "30"})
    seen = hidden(grace.get(address).content.decode())
    services.pause(experiment=row, **lab.said("mary", reason=HOSTILE))
    answer = grace.post(address, {**seen, "reason": "more"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Nothing was done" in page
    assert re.search(r"<strong>mary</strong> said pause", page)
    assert html.escape(HOSTILE) in page
    assert HOSTILE not in page
    assert Experiment.objects.get().phase.percent_bp == 1000
    again = grace.post(address, {**hidden(page), "reason": "more"})
    assert again.status_code == 302, "the page that tells it shows the new state, and may be said again"
    assert Experiment.objects.get().phase.percent_bp == 3000


@pytest.mark.parametrize("version", [None, "", "x", "99"])
def test_a_write_without_the_version_that_was_seen_does_nothing(lab, version):
    row = prepared(lab, Verb.PAUSE)
    said = {"reason": "x"} if version is None else {"reason": "x", "row_version": version}
    assert member(lab, "grace").post(page_of(row, Verb.PAUSE), said).status_code == 200
    row.refresh_from_db()
    assert row.state == State.RUNNING


def test_a_reason_is_asked_for_where_rest_asks(lab):
    row = prepared(lab, Verb.ROLLBACK)
    answer = say(member(lab, "grace"), row, Verb.ROLLBACK, reason="")
    assert answer.context["form"].errors["reason"]
    row.refresh_from_db()
    assert row.state == State.RUNNING


def test_a_verb_that_does_not_fit_the_state_is_told_in_words(lab):
    row = lab.rollout()
    grace = member(lab, "grace")
    page = html.unescape(grace.get(page_of(row, Verb.HALT)).content.decode())
    assert "expected a state to halt from (running, paused), got draft" in page
    answer = grace.post(page_of(row, Verb.HALT), {"row_version": row.row_version, "reason": "x"})
    assert "expected a state to halt from" in answer.content.decode()


@pytest.mark.parametrize("verb", CASES)
def test_a_post_without_the_csrf_token_is_refused(lab, verb):
    row = prepared(lab, verb)
    before = services.told(row)
    client = member(lab, "grace", csrf=True)
    address = page_of(row, verb, CASES[verb][1])
    said = {**hidden(client.get(address).content.decode()), "reason": "x"}
    assert client.post(address, said).status_code == 403
    row.refresh_from_db()
    assert services.told(row) == before
