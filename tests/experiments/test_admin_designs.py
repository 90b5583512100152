"""The admin's pages that write experiments down, override units, show layers and hold devices back."""

import html
import json
import re
from datetime import UTC, datetime

import pytest
from django.urls import reverse

from experiments import services, words
from experiments.lifecycle import State
from experiments.models import Experiment, Holdback, Layer, Override
from registry.models import AuditEntry, Role
from tests import factories
from tests.experiments.test_admin_verbs import HOSTILE, hidden, member
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)

ADD = "admin:experiments_experiment_add"
UNIT = "c0ffee00-0000-4000-8000-000000000001"
STEP = ("percent", "hours", "min_units", "needs_approval", "monitored")
ARM = ("name", "version", "control", "share")


def rows(kind, names, *said):
    """As the form sends its rows; what is None is not ticked, or left out."""
    sent = {f"{kind}s": len(said)}
    for index, row in enumerate(said):
        sent |= {f"{kind}{index}-{name}": value for name, value in zip(names, row, strict=True) if value is not None}
    return sent


def form(*steps, **more):
    """A rollout as a person writes it down."""
    steps = steps or (("1", "24", "200", "on", "on"), ("12.5", "1.5", "", None, None), ("", "", "", None, "on"))
    said = {"slug": "faster", "version": "2", "hypothesis": "better sevens", "policy": "", "layer": "default"}
    said |= {"layer_first": "0", "layer_end": "10000", "starts_at": "", "reason": "because", "arms": "0"}
    return said | rows("step", STEP, *steps) | more


def faults(answer):
    """Field -> what is told beside it."""
    design = answer.context["design"]
    told = {name: list(messages) for name, messages in design.form.errors.items()}
    told |= {
        f"{row.prefix}-{name}": list(each) for row in (*design.steps, *design.arms) for name, each in row.errors.items()
    }
    return told | {
        name: [words] for name, words in (("steps", design.steps_refused), ("arms", design.arms_refused)) if words
    }


# -- a design


def test_each_field_of_a_row_has_a_name_for_who_cannot_see_its_column(lab):
    page = member(lab, "grace", Role.EDITOR).get(reverse(ADD), {"what": f"{lab.channel.pk}:{lab.model.pk}"})
    for name in ("Percent, row 1", "Hours, row 2", "Approval, row 6"):
        assert f'aria-label="{name}"' in page.content.decode()


def test_a_rollout_is_written_down_as_rest_does(lab):
    grace = member(lab, "grace", Role.EDITOR)
    policy = {"slo_ms": 50, "guardrails": {"crash": {"margin": 1.5}}}
    said = form(policy=json.dumps(policy), starts_at="2026-12-01 08:00", layer_first="10", layer_end="5000")
    answer = grace.post(reverse(ADD), said)
    row = Experiment.objects.get()
    assert answer["Location"] == reverse("admin:experiments_experiment_change", args=[row.pk])
    steps = [
        {"percent_bp": 100, "hold_seconds": 86_400, "min_units": 200, "needs_approval": True, "monitored": True},
        {"percent_bp": 1250, "hold_seconds": 5400, "min_units": 0, "needs_approval": False, "monitored": False},
    ]
    by_page = services.told(row)
    assert by_page["steps"] == steps
    by_service = services.create(
        channel=lab.channel, model=lab.model, slug="other", kind="rollout", version=2, steps=steps, policy=policy,
        hypothesis="better sevens", layer_range=(10, 5000), starts_at=datetime(2026, 12, 1, 8, tzinfo=UTC),
        actor="ada", now=NOW,
    )  # fmt: skip
    assert by_page == services.told(by_service)
    entry = AuditEntry.objects.filter(verb="create_experiment").last()
    assert (entry.actor, entry.reason, row.created_by) == ("grace", "because", "grace")


@pytest.mark.parametrize("kind", ["ab", "aa", "holdback"])
def test_the_other_kinds_are_written_down_with_their_arms(lab, kind):
    arms = [("old", "1", "on", "60"), ("new", "2", None, "30"), ("none", "embedded", None, "10"), ("", "", None, "")]
    said = form(("100", "", "", None, "on")) | rows("arm", ARM, *arms)
    answer = member(lab, "grace").post(reverse(ADD) + f"?kind={kind}", said)
    assert answer.status_code == 302, faults(answer)
    assert Experiment.objects.get().arms == [
        {"name": "old", "version": 1, "control": True, "share_bp": 6000},
        {"name": "new", "version": 2, "control": False, "share_bp": 3000},
        {"name": "none", "version": None, "control": False, "share_bp": 1000},
    ]
    assert Experiment.objects.get().kind == kind


def test_the_form_proposes_what_the_service_would_take(lab):
    page = member(lab, "grace").get(reverse(ADD) + "?kind=rollout")
    assert [row["percent"].value() for row in page.context["design"].steps] == ["1", "5", "10", "25", "50", "100"]
    assert page.context["design"].form["version"].value() == 2
    arms = member(lab, "mary").get(reverse(ADD) + "?kind=ab").context["design"].arms
    assert [(row["name"].value(), str(row["version"].value())) for row in arms[:2]] == [
        ("control", "1"),
        ("treatment", "2"),
    ]


@pytest.mark.parametrize(
    ("said", "field", "told"),
    [
        ({"slug": "Not A Slug"}, "slug", ""),
        ({"slug": "taken"}, "slug", "which exists"),
        ({"version": "1"}, "version", "expected another version than digits:1"),
        ({"version": "9"}, "version", "valid choice"),
        ({"policy": "{"}, "policy", "valid JSON"),
        ({"policy": "[1]"}, "policy", "expected a JSON object"),
        ({"policy": '{"colour": 1}'}, "policy", "got colour"),
        ({"layer_first": "5", "layer_end": "5"}, "layer_first", "expected a range"),
        ({"layer_end": "10001"}, "layer_end", "10000"),
        ({"layer": "No Slug"}, "layer", ""),
        ({"starts_at": "tomorrow"}, "starts_at", "valid date"),
        ({"step1-percent": "1"}, "steps", "expected steps that rise"),
        ({"step1-percent": "101"}, "step1-percent", "100"),
        ({"step1-percent": "x"}, "step1-percent", "expected percent"),
        ({"step0-percent": ""}, "step0-percent", "expected a percentage in a row that says more"),
        ({"step0-hours": "-1"}, "step0-hours", "0"),
        ({"step0-min_units": "1.5"}, "step0-min_units", "whole number"),
        ({"step0-percent": "", "step0-hours": "", "step0-min_units": "", "step1-percent": "", "step1-hours": ""},
         "steps", "expected 1 to 50 steps, got 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_made(lab, said, field, told):
    lab.rollout("taken")
    answer = member(lab, "grace").post(reverse(ADD), form(**said))
    assert answer.status_code == 200
    assert set(faults(answer)) == {field}
    assert told in faults(answer)[field][0]
    assert html.escape(faults(answer)[field][0]) in answer.content.decode()
    assert Experiment.objects.count() == 1


@pytest.mark.parametrize(
    ("arms", "field", "told"),
    [
        ([("a", "1", "on", "")], "arms", "expected 2 to 20"),
        ([("a", "1", None, ""), ("b", "2", None, "")], "arms", "expected one control, got 0"),
        ([("a", "1", "on", ""), ("a", "2", None, "")], "arms", "expected unique names"),
        ([("a", "1", "on", "50"), ("b", "2", None, "10")], "arms", "add up to 10000"),
        ([("a", "1", "on", ""), ("b", "", None, "")], "arm1-version", "expected a version"),
        ([("A b", "1", "on", ""), ("b", "2", None, "")], "arm0-name", ""),
        ([], "arms", "expected the arms"),
    ],
)
def test_wrong_arms_are_told_with_the_arms(lab, arms, field, told):
    said = form(("100", "", "", None, "on")) | rows("arm", ARM, *arms)
    answer = member(lab, "grace").post(reverse(ADD) + "?kind=ab", said)
    assert set(faults(answer)) == {field}
    assert told in faults(answer)[field][0]


def test_more_rows_without_a_script_keep_what_was_written(lab):
    grace = member(lab, "grace")
    answer = grace.post(reverse(ADD), form(do="more-steps", hypothesis=HOSTILE))
    design = answer.context["design"]
    assert [row["percent"].value() for row in design.steps[:3]] == ["1", "12.5", ""]
    assert len(design.steps) == 9
    assert html.escape(HOSTILE) in answer.content.decode()
    assert HOSTILE not in answer.content.decode()
    assert not Experiment.objects.exists()
    assert len(grace.post(reverse(ADD), form(steps="999", do="more-steps")).context["design"].steps) == 50
    assert grace.post(reverse(ADD), form(steps="-1", do="more-steps")).context["design"] is not None


def test_an_edit_shows_the_design_and_voids_the_approvals(lab):
    row = lab.approved(lab.rollout(policy={"slo_ms": 50}, layer_range=(0, 5000)))
    grace = member(lab, "grace")
    address = reverse("admin:experiments_experiment_edit", args=[row.pk])
    page = grace.get(address)
    assert "voids its approvals" in page.content.decode()
    design = page.context["design"]
    assert (design.form["layer_end"].value(), design.form["version"].value()) == (5000, 2)
    before = services.told(row)
    sent = {field.html_name: field.value() for field in design.form if field.value() is not None}
    sent |= {
        field.html_name: field.value() or "" for step in design.steps for field in step if field.value() is not False
    }
    sent |= {"policy": design.form["policy"].value(), "steps": len(design.steps), "reason": "again"}
    sent |= hidden(page.content.decode())
    assert grace.post(address, sent).status_code == 302
    row.refresh_from_db()
    after = services.told(row)
    assert {name for name in after if after[name] != before[name]} == {"state", "edition"}
    assert (row.state, row.edited_by) == (State.DRAFT, "grace")


def test_a_stale_edit_says_who_did_what_and_keeps_what_was_written(lab):
    row = lab.rollout()
    grace = member(lab, "grace")
    address = reverse("admin:experiments_experiment_edit", args=[row.pk])
    seen = hidden(grace.get(address).content.decode())
    lab.do("submit", row, "mary")
    answer = grace.post(address, form(**seen, hypothesis="mine"))
    page = answer.content.decode()
    assert "Nothing was done" in page
    assert re.search(r"<strong>mary</strong> said submit", page)
    assert "mine" in page
    row.refresh_from_db()
    assert row.state == State.IN_REVIEW
    assert grace.post(address, form(hypothesis="mine")).context["meanwhile"] == [], "without a version nothing is done"
    invalid = grace.post(address, form(**seen, policy="{"))
    assert hidden(invalid.content.decode())["row_version"] == seen["row_version"], "a fault is no look at the new state"
    assert grace.post(address, form(**hidden(page), hypothesis="mine")).status_code == 302


def test_what_is_served_cannot_be_edited(lab):
    row = lab.running()
    grace = member(lab, "grace")
    address = reverse("admin:experiments_experiment_edit", args=[row.pk])
    assert "Not possible now" in grace.get(address).content.decode()
    grace.post(address, form(row_version=row.row_version))
    row.refresh_from_db()
    assert row.state == State.RUNNING


def test_a_design_is_an_editors_and_of_ones_own_application(lab):
    other = factories.application("other")
    foreign = factories.converted_version(other).model
    eve = member(lab, "eve", Role.VIEWER)
    assert eve.get(reverse(ADD)).status_code == eve.post(reverse(ADD), form()).status_code == 403
    address = reverse(ADD) + f"?what={other.channels.get().pk}:{foreign.pk}"
    grace = member(lab, "grace")
    assert grace.get(address).status_code == grace.post(address, form()).status_code == 403
    assert not Experiment.objects.exists()


# -- single units


def overrides_of(row):
    return reverse("admin:experiments_experiment_overrides", args=[row.pk])


def test_a_unit_is_overridden_and_let_go_and_only_its_hash_is_shown(lab):
    row = lab.running()
    grace = member(lab, "grace")
    page = grace.get(overrides_of(row)).content.decode()
    said = {**hidden(page), "unit": UNIT, "arm": "treatment", "expires_at": "", "reason": "a tester"}
    assert grace.post(overrides_of(row), said).status_code == 302
    made = Override.objects.get()
    entry = services.changes(row).first()
    assert (made.arm, made.set_by, entry.verb, entry.actor) == (
        "treatment",
        "grace",
        "set_override_of_experiment",
        "grace",
    )
    page = grace.get(overrides_of(row)).content.decode()
    assert made.unit_key[:16] in page
    assert UNIT not in page
    removal = {**hidden(page), "do": "remove", "unit_key": made.unit_key}
    assert grace.post(overrides_of(row), {**removal, "row_version": "1"}).context["meanwhile"] is not None
    assert Override.objects.exists()
    assert grace.post(overrides_of(row), removal).status_code == 302
    assert not Override.objects.exists()
    assert services.changes(row).first().verb == "clear_override_of_experiment"


@pytest.mark.parametrize(
    ("said", "field"),
    [({"unit": "no unit!"}, "unit"), ({"arm": "nobody"}, "arm"), ({"expires_at": "soon"}, "expires_at")],
)
def test_a_wrong_override_is_told_at_its_field(lab, said, field):
    row = lab.running()
    grace = member(lab, "grace")
    sent = {**hidden(grace.get(overrides_of(row)).content.decode()), "unit": UNIT, "arm": "treatment"} | said
    assert set(grace.post(overrides_of(row), sent).context["form"].errors) == {field}
    assert not Override.objects.exists()


def test_overrides_are_shown_to_all_members_and_set_by_releasers(lab):
    row = lab.running()
    editor = member(lab, "eve", Role.EDITOR)
    page = editor.get(overrides_of(row))
    assert page.status_code == 200
    assert "Give a unit an arm" not in page.content.decode()
    assert editor.post(overrides_of(row), {"row_version": row.row_version, "unit": UNIT}).status_code == 403


@pytest.mark.parametrize("known", ["override", "holdback", "other"])
def test_a_unit_is_explained_as_rest_explains_it(lab, known):
    row = lab.running(steps=[{"percent_bp": 10_000}])
    if known == "override":
        services.set_override(experiment=row, unit=UNIT, arm="treatment", **lab.said())
    if known == "holdback":
        services.set_holdback(channel=lab.channel, model=lab.model, version=1, percent_bp=5000, **lab.said())
    address = reverse("admin:experiments_experiment_unit", args=[row.pk])
    entries = AuditEntry.objects.count()
    for number in range(1, 5):
        unit = f"{UNIT[:-1]}{number}"
        answer = member(lab, f"who{number}", Role.VIEWER).post(address, {"unit": unit})
        assert answer.context["told"] == services.explain(row, unit)
        assert html.escape(answer.context["words"]) in answer.content.decode()
    assert AuditEntry.objects.filter(verb__endswith="_experiment").count() <= entries
    wrong = member(lab, "grace").post(address, {"unit": HOSTILE})
    assert wrong.context["form"].errors["unit"]
    assert HOSTILE not in wrong.content.decode()


# -- layers and holdbacks


def test_a_layer_is_shown_as_the_service_maps_it(lab):
    lab.running(slug="one", layer_range=(0, 2500))
    lab.running(lab.ab(slug="two", layer_range=(5000, 10_000)))
    lab.rollout("third", layer_range=(2500, 5000))
    page = member(lab, "eve", Role.VIEWER).get(reverse("admin:experiments_layer_change", args=[Layer.objects.get().pk]))
    parts = [(part.first, part.end, part.experiment and part.experiment.slug) for part in page.context["parts"]]
    assert parts == [(0, 2500, "one"), (2500, 5000, None), (5000, 10_000, "two")]
    shown = re.findall(r'<rect class="[\w-]+" x="(\d+)" y="0" width="(\d+)"', page.content.decode())
    assert shown == [("0", "2500"), ("2500", "2500"), ("5000", "5000")]
    assert "third" in page.content.decode()
    assert words.state("running") in page.content.decode(), "in the colour that it has on its own page"
    assert "75 %" in member(lab, "x", Role.VIEWER).get(reverse("admin:experiments_layer_changelist")).content.decode()


def test_devices_are_held_back_and_let_go(lab):
    grace = member(lab, "grace")
    address = reverse("admin:experiments_holdback_add")
    page = grace.get(address)
    assert page.context["form"]["held"].value() == "2"
    assert page.context["form"]["version"].value() == 1, "what is released, not the newest"
    said = {"version": "1", "held": "1.25", "until": "2027-06-01 08:00", "reason": "long stable"}
    answer = grace.post(address, said)
    row = Holdback.objects.get()
    assert answer["Location"] == reverse("admin:experiments_holdback_change", args=[row.pk])
    assert services.told_holdback(row) == {
        "version": 1, "percent_bp": 125, "until": "2027-06-01T08:00:00+00:00", "lifted": False,
    }  # fmt: skip
    entry = AuditEntry.objects.get(verb="set_holdback")
    assert (entry.actor, entry.reason) == ("grace", "long stable")
    assert "somebody changed it meanwhile" in grace.post(address, said).content.decode(), "it was set since"
    lift = reverse("admin:experiments_holdback_lift", args=[row.pk])
    entries = AuditEntry.objects.count()
    page = grace.get(lift)
    assert "a security fix must leave nobody out" in page.content.decode()
    assert page.context["effect"].buckets_moved == 125
    assert AuditEntry.objects.count() == entries, "looking lifts nothing"
    grace.post(lift, {"reason": "", "row_version": row.row_version})
    grace.post(lift, {"reason": "x", "row_version": row.row_version + 1})
    assert Holdback.objects.get().lifted_at is None
    assert grace.post(lift, {"reason": "a fix", "row_version": row.row_version}).status_code == 302
    assert AuditEntry.objects.get(verb="lift_holdback").reason == "a fix"
    again = grace.post(lift, {"reason": "twice", "row_version": Holdback.objects.get().row_version})
    assert "expected a holdback" in again.content.decode()


@pytest.mark.parametrize(
    ("said", "field"),
    [({"held": "51"}, "held"), ({"held": "0"}, "held"), ({"version": "9"}, "version"), ({"reason": ""}, "reason")],
)
def test_a_wrong_holdback_is_told_at_its_field(lab, said, field):
    sent = {"version": "1", "held": "2", "until": "", "reason": "x"} | said
    answer = member(lab, "grace").post(reverse("admin:experiments_holdback_add"), sent)
    assert set(answer.context["form"].errors) == {field}
    assert not Holdback.objects.exists()


def test_pages_without_a_csrf_token_change_nothing(lab):
    row = lab.running()
    services.set_holdback(channel=lab.channel, model=lab.model, version=1, **lab.said())
    grace = member(lab, "grace", csrf=True)
    held = Holdback.objects.get()
    before = services.told(row), services.told_holdback(held), Experiment.objects.count()
    posts = {
        reverse(ADD): form(),
        reverse("admin:experiments_experiment_edit", args=[row.pk]): form(row_version=row.row_version),
        overrides_of(row): {"row_version": row.row_version, "unit": UNIT, "arm": "treatment"},
        reverse("admin:experiments_holdback_add"): {"version": "1", "held": "3", "reason": "x"},
        reverse("admin:experiments_holdback_lift", args=[held.pk]): {"row_version": held.row_version, "reason": "x"},
    }
    assert {grace.post(address, said).status_code for address, said in posts.items()} == {403}
    row.refresh_from_db()
    held.refresh_from_db()
    assert before == (services.told(row), services.told_holdback(held), Experiment.objects.count())


def test_a_version_shows_where_it_is_tried_and_leads_to_its_rollout(lab):
    grace = member(lab, "grace")
    address = reverse("admin:registry_modelversion_change", args=[lab.versions[2].pk])
    page = html.unescape(grace.get(address).content.decode())
    link = re.search(r'href="([^"]*experiments/experiment/add/[?][^"]*)"', page)[1]
    assert grace.get(link).context["design"].form["version"].value() == "2"
    lab.rollout("faster")
    assert "faster" in grace.get(address).content.decode()
    eve = member(lab, "eve", Role.VIEWER).get(address).content.decode()
    assert "faster" in eve
    assert "Roll out" not in eve
