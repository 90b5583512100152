"""The pages that show experiments: every figure is the stored one, and each says what it waits for and who did what."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from math import log

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from experiments import analysis, services, words
from experiments.admin import charts, panels, showing
from experiments.admin.headline import headline
from experiments.admin.lines import lines
from experiments.admin.timeline import GUARDRAILS, timeline
from experiments.models import AnalysisRun, Experiment
from experiments.policy import DEFAULT_GUARDRAILS, Measure, Policy
from experiments.services.foreseeing import foresee
from registry.models import Application, Role
from registry.services import grant
from tests import factories
from tests.experiments import measured
from tests.experiments.lived import CLASSES, STEPS, heard_of, live
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]
LIST = "admin:experiments_experiment_changelist"


class _Cells(HTMLParser):
    """Rows of a page's tables: texts of their cells, white space made one."""

    def __init__(self):
        super().__init__()
        self.rows, self.text = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.text = ""
        if tag == "br" and self.text is not None:
            self.text += " "

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.text is not None:
            self.rows[-1].append(" ".join(self.text.split()))
            self.text = None


def rows_of(page):
    parser = _Cells()
    parser.feed(page)
    return [row for row in parser.rows if row]


def row_of(page, *, begins):
    return next(row for row in rows_of(page) if row[0].startswith(begins))


@pytest.fixture
def root(client):
    client.force_login(factories.user("root", superuser=True))
    return client


def address(page, of):
    return reverse(f"admin:experiments_experiment_{page}", args=[of.pk])


def page_of(client, of, query=""):
    answer = client.get(address("change", of) + query)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def lived(lab):
    """At 5 %, three looks, with more crashes in one class than chance explains, and slower than allowed."""
    with_classes(lab.app)
    of = lab.running(steps=STEPS, hypothesis="half the bytes")
    list(live(of, lab.clock, 3, 240, crash=(1, 60), fail=(1, 20), slower=0.22))
    return of


def with_classes(app):
    app.device_classes.exclude(name="android-mid").delete()
    for position, (name, os) in enumerate(CLASSES):
        selector = {} if name == "android-mid" else {"os": [os]}
        said = {"position": position + (5 if not selector else 0), "selector": selector, "variants": ["tflite-float32"]}
        app.device_classes.update_or_create(name=name, defaults=said)


# -- the list


def test_a_line_tells_how_far_it_is_and_what_the_latest_look_said(root, lived):
    run = AnalysisRun.objects.of(lived).first()
    told = row_of(root.get(reverse(LIST)).content.decode(), begins="faster")
    assert told[1:] == [
        "rollout", "digits", "demo/production", words.STATES[lived.state][0], "5 %", "1 of 4",
        words.VERDICTS[run.verdict][0], words.number(run.units), told[-1],
    ]  # fmt: skip


def test_a_list_of_fifty_asks_as_often_as_one_of_two(root):
    def asked():
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert root.get(reverse(LIST)).status_code == 200
        return len(found)

    for number in range(2):
        looked_at(measured.experiment(slug=f"first-{number}"))
    asked()
    few = asked()
    for number in range(48):
        looked_at(measured.experiment(slug=f"more-{number}"))
    assert asked() == few <= 25
    assert root.get(reverse(LIST)).content.decode().count("halt a class") == 50


def looked_at(of, verdict="halt_class", **said):
    told = {"as_of": NOW, "verdict": verdict, "units": 7, "reasons": ["because"]} | said
    return AnalysisRun.objects.create(experiment=of, phase=of.phases.last(), **told)


def test_it_is_searched_and_filtered(root):
    measured.experiment(slug="first")
    measured.experiment(slug="second", kind="ab")
    for query, told in (("q=second", "second"), ("kind__exact=ab", "second"), ("kind__exact=rollout", "first")):
        names = [row[0] for row in rows_of(root.get(f"{reverse(LIST)}?{query}").content.decode())[1:]]
        assert names == [told], query


def test_an_empty_list_says_how_to_begin(root):
    page = root.get(reverse(LIST)).content.decode()
    assert "aerogram rollout create" in page
    assert reverse("admin:experiments_experiment_add") in page


def test_members_of_another_application_see_nothing(client):
    of = measured.experiment(slug="secret-one")
    user = factories.user("eve")
    user.is_staff = True
    user.save()
    grant(application=factories.application("other"), user=user, role=Role.ADMINISTRATOR, actor="tests", now=NOW)
    client.force_login(user)
    assert "secret-one" not in client.get(reverse(LIST)).content.decode()
    assert "secret-one" not in client.get("/admin/").content.decode()
    assert {client.get(address(page, of)).status_code for page in ("change", "standing")} == {403}


# -- what was measured


def test_guardrails_are_told_as_they_are_stored(root, lived):
    run = AnalysisRun.objects.of(lived).first()
    page = page_of(root, lived)
    assert len(run.results["metrics"]) == len(DEFAULT_GUARDRAILS)
    for metric in run.results["metrics"]:
        told = row_of(page, begins=metric["name"].replace("_", " ") + " ")
        assert told[2:5] == [words.harm(metric["measure"], metric[name]) for name in ("harm", "bound", "margin")]
    for reason in run.reasons:
        assert reason in page.replace("&#x27;", "'")


def test_the_funnel_the_split_and_the_classes_are_told_as_they_are_stored(root, lived):
    results = AnalysisRun.objects.of(lived).first().results
    page = page_of(root, lived)
    arms = results["arms"]
    for rank, stage in enumerate(panels.STAGES.values()):
        told = [words.number(arms[arm]["funnel"][rank][key]) for arm in arms for key in ("reached", "failed", "lost")]
        assert row_of(page, begins=stage) == [stage, *told]
    assert any(arm["funnel"][2]["failed"] for arm in arms.values())
    assert any(arm["funnel"][2]["lost"] for arm in arms.values())
    shown = rows_of(page)
    for arm, units in results["srm"]["counts"].items():
        assert [f"{arm} 50 %", words.number(units), words.number(units), "+0"] in shown
    assert f"<dd>{results['srm']['p_value']:.3g} " in page
    assert f"<dd>{results['srm']['factor']:.3g} " in page
    differing = row_of(page, begins="do they differ?")
    for number, metric in enumerate(results["metrics"], start=1):
        assert f"p {metric['heterogeneity']['p_value']:.3g}, I²" in differing[number]
        for name, told in metric["by_class"].items():
            cell = row_of(page, begins=f"{name} ")[number]
            assert cell.startswith(words.effect(metric["measure"], told["difference"])), (name, metric["name"])


def test_the_read_at_the_end_is_told_as_it_is_stored(root, lived):
    final = AnalysisRun.objects.of(lived).first().results["final"]
    shown = {row[0]: row for row in rows_of(page_of(root, lived)) if row[1:2] in (["primary"], ["secondary"])}
    measures = {rule.name: rule.measure for rule in DEFAULT_GUARDRAILS}
    assert len(final) == len(shown) == len(measures)
    for told in final:
        row = shown[told["name"].replace("_", " ")]
        assert row[1] == ("primary" if told["is_primary"] else "secondary")
        if None not in told["interval"]:
            assert row[2] == words.effect(measures[told["name"]], told["difference"])
            assert row[3] == words.between(measures[told["name"]], *told["interval"])
        assert row[4:] == [f"{told[name]:.3g}" for name in ("p_value", "adjusted_p_value")]
    assert any(None not in told["interval"] for told in final)


def test_what_units_measured_before_is_told_beside_what_it_adjusts():
    cuped = {"variance_reduction": 0.38, "units": 412, "plain_difference": log(1.031), "plain_interval": [0.0, 0.1]}
    told = {"name": "latency", "arm": "treatment", "is_primary": False, "difference": log(1.02), "cuped": cuped,
            "interval": [log(0.99), log(1.05)], "p_value": 0.2, "adjusted_p_value": 0.4}  # fmt: skip
    (row,) = panels.final_rows(AnalysisRun(results={"final": [told]}), Policy())
    assert (row["difference"], row["interval"], row["cuped"]["plain"]) == ("+2.0 %", "−1.0 … +5.0 %", "+3.1 %")
    told["cuped"] = cuped | {"variance_reduction": 0.0}
    assert not panels.final_rows(AnalysisRun(results={"final": [told]}), Policy())[0]["cuped"]


def test_a_mismatch_is_told_with_its_suspects():
    run = AnalysisRun(results={"srm": {"p_value": 1e-5, "factor": 40.0, "counts": {"a": 60, "b": 40}, "suspects": [],
                                       "shares": {"a": 0.25, "b": 0.25}}})  # fmt: skip
    assert panels.split_standing(run, Policy()) == ("mismatch: p 1e-05 is below 0.001, which holds", "warn")
    assert [(row.observed, row.expected, row.difference) for row in panels.splits(run)] == [
        (60, 50.0, "+10"), (40, 50.0, "−10"),
    ]  # fmt: skip
    run.results["srm"]["factor"] = 2000.0
    assert panels.split_standing(run, Policy())[1] == "bad"
    assert panels.split_standing(AnalysisRun(results={"srm": None}), Policy())[1] == "calm"


@pytest.mark.parametrize(
    ("said", "standing", "tone"),
    [
        ({"bound": 0.03, "harm": 0.05}, "above", "bad"),
        ({"bound": 0.005, "harm": 0.05}, "perhaps above", "warn"),
        ({"bound": -0.02, "harm": 0.001}, "within", "good"),
        ({"bound": None, "harm": 0.05, "is_enough": False}, "too little data", "calm"),
    ],
)
def test_how_a_guardrail_stands_follows_from_its_bound(said, standing, tone):
    metric = {"name": "load_failure", "arm": "t", "measure": "share", "margin": 0.01, "is_enough": True} | said
    (row,) = panels.guarded(AnalysisRun(results={"metrics": [metric]}), Policy())
    assert (row.standing, row.tone) == (standing, tone)


def test_latency_above_twice_its_margin_is_worse_and_stands_first():
    told = {"arm": "t", "is_enough": True, "bound": -1.0, "harm": 0.0}
    metrics = [
        told | {"name": "funnel", "measure": "share", "margin": 0.02},
        told | {"name": "latency", "measure": "log_mean", "margin": log(1.1), "bound": 3 * log(1.1), "harm": 1.0},
    ]
    rows = panels.guarded(AnalysisRun(results={"metrics": metrics}), Policy())
    assert [(row.name, row.tone) for row in rows] == [("latency", "bad"), ("funnel", "good")]


def test_charts_follow_the_stored_looks(lived):
    told = showing.over_time(lived, timeline(lived))
    newest = AnalysisRun.objects.of(lived).first().results["metrics"]
    assert [chart["now"] for chart in told] == [words.harm(each["measure"], each["harm"]) for each in newest]
    for chart, metric in zip(told, newest, strict=True):
        assert f"at least {words.harm(metric['measure'], metric['bound'])}" in chart["picture"].replace("&#x27;", "'")


def test_a_chart_draws_each_look_and_keeps_to_its_frame():
    looks = [
        charts.Look(NOW + timedelta(hours=hour), harm, harm - 0.01, harm - 9, harm + 9, is_enough=True)
        for hour, harm in enumerate((5.0, 0.01, 0.02))
    ]
    marks = [charts.Mark(NOW, "5 %"), charts.Mark(NOW + timedelta(days=9), "outside")]
    picture = charts.over_time(looks, marks, measure=Measure.SHARE, margin=0.02, title="<funnel>")
    line = picture.split('class="ag-estimate" points="')[1].split('"')[0]
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    assert len(points) == 3
    assert points[1][1] > points[2][1] > points[0][1], "more harm lies higher, and far out on the edge"
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in points)
    assert "outside" not in picture
    assert "<funnel>" not in picture
    assert charts.over_time([], [], measure=Measure.SHARE, margin=0.02, title="x") == ""


def test_a_year_of_looks_is_drawn_in_sixty_points_and_the_latest_is_one(root):
    of = measured.experiment()
    for number in range(200):
        looked_at(of, as_of=NOW + timedelta(hours=number), verdict="advance", results={"metrics": []})
    stored = showing._stored(of)
    assert len(stored) <= showing.MOST_POINTS
    assert stored[-1][0] == NOW + timedelta(hours=199)


def test_many_looks_ask_no_more_than_few(root, lived):
    def asked():
        with CaptureQueriesContext(connection) as found:
            page_of(root, lived)
        return len(found)

    asked()
    few = asked()
    results = AnalysisRun.objects.of(lived).first().results
    for number in range(100):
        at = NOW + timedelta(days=1, hours=number)
        looked_at(lived, as_of=at, verdict=("hold", "advance")[number % 2], results=results)
    assert asked() == few <= 80


def test_a_look_that_failed_is_told_and_what_was_measured_before_stays(root, lived, monkeypatch):
    run = AnalysisRun.objects.of(lived).first()
    analysis.record_error(lived, run.as_of + timedelta(hours=1), ValueError("expected an arm"))
    page = page_of(root, lived)
    assert "the analysis failed: expected an arm" in page
    assert row_of(page, begins="assigned")[1] == words.number(run.results["arms"]["control"]["units"])


# -- what happened, and who or what did it


def test_people_the_schedule_and_the_guardrails_are_told_apart(root, lab):
    with_classes(lab.app)
    of = lab.running(steps=[{**step, "hold_seconds": 60} for step in STEPS])
    list(live(of, lab.clock, 2, 300))
    list(live(of, lab.clock, 1, 600, crash=(1, 3), only="android-mid"))
    events = timeline(of)
    assert [event.at for event in events] == sorted((event.at for event in events), reverse=True)
    told = [(event.source.kind, event.words) for event in events]
    for expected in (
        ("person", "designed"), ("person", "approved"), ("person", "started"), ("schedule", "went to the next step"),
        ("guardrails", "halted"), ("analysis", "found: advance"), ("analysis", "found: halt a class"),
    ):  # fmt: skip
        assert expected in told
    step = next(event for event in reversed(events) if event.source.kind == "schedule")
    assert (step.details, step.phase) == (("5 % → 25 %",), 2)
    halt = next(event for event in events if event.source.kind == "guardrails")
    assert halt.details == ("only the class android-mid",)
    assert "crash" in halt.reason
    page = page_of(root, of, "?all=1")
    for who in ("ada", "grace", "the schedule", "the guardrails", "the analysis"):
        assert f"<strong>{who}</strong>" in page
    assert "halted for android-mid" in page


def test_the_guardrails_act_under_the_name_they_are_known_by():
    assert analysis.ACTOR == GUARDRAILS


def test_only_looks_that_changed_the_verdict_are_events():
    of = measured.experiment()
    for number, verdict in enumerate(["advance", "advance", "hold", "hold", "advance"]):
        looked_at(of, verdict=verdict, as_of=NOW + timedelta(hours=number))
    assert [event.words for event in timeline(of)] == ["found: advance", "found: hold", "found: advance"]


def test_the_oldest_are_folded_away_until_asked_for(root, lab):
    of = lab.running(steps=STEPS)
    for _ in range(10):
        lab.do("pause", of)
        lab.do("resume", of)
    assert 'href="?all=1"' in page_of(root, of)
    assert page_of(root, of).count('class="ag-by-person"') == 12
    assert page_of(root, of, "?all=1").count('class="ag-by-person"') == 24


# -- is it fine, and what does it wait for


def said(lab, verb, of, reason, actor="ada", **more):
    verb(experiment=of, actor=actor, now=lab.clock(), reason=reason, **more)


def said_of(of, now):
    of = Experiment.objects.get(pk=of.pk)
    return headline(of, timeline(of), now)


def test_each_state_says_what_comes_next(lab):
    of = lab.rollout(steps=STEPS)
    assert "Submit it" in said_of(of, lab.clock()).words
    lab.do("submit", of)
    assert said_of(of, lab.clock()).waits == ("approval to start: 0 of 1, not by ada",)
    lab.do("approve", of, "grace")
    assert "somebody starts it" in said_of(of, lab.clock()).words
    lab.do("start", of)
    told = said_of(of, lab.clock())
    assert (told.tone, told.happened.words) == ("calm", "started")
    assert told.waits[:2] == (
        "time: until 2026-11-23 12:00 UTC, in 1 d",
        "the sample: 0 of 200 units in the smallest arm",
    )
    said(lab, services.pause, of, "a holiday")
    assert (said_of(of, lab.clock()).tone, said_of(of, lab.clock()).title) == ("warn", "Paused: a holiday")
    lab.do("resume", of)
    said(lab, services.halt, of, "heat", actor="grace")
    told = said_of(of, lab.clock())
    assert (told.tone, told.title, told.happened.source.name) == ("bad", "Halted: heat", "grace")
    lab.do("resume", of)
    assert said_of(of, lab.clock()).waits == ("approval to go on: 0 of 1, not by ada",)
    lab.do("rollback", of)
    assert said_of(of, lab.clock()).tone == "bad"


def test_a_hold_says_why_in_its_title(lab, lived):
    run = AnalysisRun.objects.of(lived).first()
    assert run.verdict == "hold"
    told = said_of(lived, run.as_of)
    assert (told.tone, told.title) == ("warn", f"Running at 5 %, held: {run.reasons[0]}")


def test_a_healthy_one_says_so_and_when_it_goes_on(lab):
    of = lab.running(steps=STEPS)
    list(live(of, lab.clock, 1, 250))
    told = said_of(of, NOW + timedelta(minutes=1))
    assert (told.tone, told.title) == ("good", "Running at 5 %, no guardrail speaks against it")
    assert told.words == "Next it will go to 25 % by itself, once everything below is there."
    assert told.waits == ("time: until 2026-11-23 12:00 UTC, in 23 h 59 min",)


def test_a_step_that_asks_for_approval_says_whose(lab):
    of = lab.running(steps=[{"percent_bp": 500, "needs_approval": True, "monitored": False}, {"percent_bp": 10_000}])
    told = said_of(of, lab.clock())
    assert told.title == "Running at 5 %, needs somebody's approval"
    assert told.waits == ("approval of the step: 1 more must approve, not ada",)


def test_what_ended_tells_its_reason_once_and_no_halt_that_is_over(root, lab, lived):
    said(lab, services.halt, lived, "heat", device_class="android-mid")
    assert "Halted for android-mid" in page_of(root, lived)
    said(lab, services.rollback, lived, "smoke and fire")
    page = page_of(root, lived)
    assert "Was halted for android-mid" in page
    assert "Halted for" not in page
    assert page.partition("What happened")[0].count("smoke and fire") == 1


def test_a_kill_switch_is_what_it_waits_for(root, lab):
    from distribution import services as releasing

    of = lab.running(steps=[{"percent_bp": 500, "monitored": False}, {"percent_bp": 10_000}])
    releasing.engage_kill_switch(channel=lab.channel, model=lab.model, **lab.said())
    told = said_of(of, lab.clock())
    assert (told.tone, told.title) == ("warn", "Running at 5 %, and the kill switch is engaged")
    assert told.waits == ("the kill switch to be lifted: every device runs the model embedded in its app",)
    assert page_of(root, of).count(told.waits[0]) == 3, "in the headline, in the plan, and beside the verb"


def test_a_percentage_that_is_no_step_stands_beside_the_step(root, lab):
    of = lab.running(steps=[{"percent_bp": 500, "min_units": 20_000, "hold_seconds": 86_400}, {"percent_bp": 10_000}])
    assert "here, at" not in page_of(root, of)
    services.ramp(experiment=of, to_bp=750, **lab.said())
    page = page_of(root, of)
    assert "here, at 7.5 %" in page
    assert f"{words.number(20_000)} units in the smallest arm" in page


# -- before the start


def test_a_rollout_before_its_start_has_neither_shares_nor_figures(root, lab):
    of = lab.rollout(steps=STEPS)
    page = page_of(root, of)
    assert row_of(page, begins="Arm") == ["Arm", "Gets"]
    assert row_of(page, begins="control") == ["control", "version 1"]
    assert "units, smallest arm" not in page
    assert "Share" in str(row_of(page_of(root, lab.ab()), begins="Arm"))


def test_a_draft_tells_what_it_would_see(root, lab):
    from experiments.partitions import make_ahead

    make_ahead(NOW)
    make_ahead(datetime.now(UTC))
    heard_of(lab.model, 6000, datetime.now(UTC))
    of = lab.rollout(steps=STEPS)
    page = page_of(root, of)
    told = foresee(of, datetime.now(UTC))
    assert told["units"] == 6000
    for step in told["steps"][:3]:
        shown = row_of(page, begins=words.percent(step["percent_bp"]))
        assert shown[1] == " ".join(words.number(step["treatment_units"]).split())
        assert shown[2:] == [each["words"] for each in step["guardrails"]]
    lab.approved(of)
    lab.do("start", of)
    assert "What the plan would see" not in page_of(root, of)


# -- the page as such


def test_nothing_is_sent_while_nothing_changes(root, lab, monkeypatch):
    of = lab.running(steps=STEPS)
    now = datetime.now(UTC)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    same = showing.fingerprint(of, now)
    assert same == showing.fingerprint(of, now.replace(second=0, microsecond=0))
    assert root.get(f"{address('standing', of)}?seen={same}").status_code == 204
    assert 'id="standing"' in root.get(f"{address('standing', of)}?seen=other").content.decode()
    lab.do("pause", of)
    of.refresh_from_db()
    assert showing.fingerprint(of, now) != same
    paused = showing.fingerprint(of, now)
    looked_at(of)
    assert showing.fingerprint(of, now) != paused


def test_what_has_ended_asks_no_more(root, lab):
    of = lab.running(steps=STEPS)
    assert address("standing", of) in page_of(root, of)
    lab.do("rollback", of)
    assert address("standing", of) not in page_of(root, of)


def test_what_people_write_is_shown_and_not_run(root, lab):
    hostile = "<script>alert(1)</script>"
    of = lab.running(steps=STEPS, hypothesis=hostile)
    said(lab, services.halt, of, f"it said {hostile}")
    looked_at(of, reasons=[hostile], results={"metrics": [], "arms": {}})
    page = page_of(root, of) + root.get("/admin/").content.decode()
    assert hostile not in page
    assert page.count("&lt;script&gt;alert(1)") >= 4


def test_differences_from_the_default_policy_are_named(root, lab):
    policy = {"slo_ms": 60, "alpha": 0.05, "guardrails": {"crash": {"margin": 1.5}, "slow": {"is_dry_run": True}}}
    assert panels.policy_differences(policy) == [
        ("slo_ms", "100", "60"),
        ("crash: margin", "1.00 ×", "1.50 ×"),
        ("slow: is dry run", "no", "yes"),
    ]
    assert "1.50 ×" in page_of(root, lab.rollout(policy=policy))


def test_home_names_what_needs_somebody_first(root, lab):
    running = lab.running(slug="going", steps=STEPS)
    waiting = lab.rollout(slug="asking", layer="other")
    lab.do("submit", waiting)
    halted = lab.running(slug="stopped", layer="third")
    said(lab, services.halt, halted, "heat")
    told = lines(Application.objects.all(), lab.clock())
    assert {line.experiment.slug: (line.words, line.needs_somebody) for line in told} == {
        "going": ("", False), "asking": ("waits for approval to start", True), "stopped": ("heat", True),
    }  # fmt: skip
    assert told[-1].experiment == running
    looked_at(running, verdict="hold", reasons=["latency"])
    words_of = {line.experiment.slug: line.words for line in lines(Application.objects.all(), lab.clock())}
    assert words_of["going"] == "held: latency"
    page = root.get("/admin/").content.decode()
    assert "<b>3</b><span>experiments need you</span>" in page


def test_the_home_page_asks_as_often_for_fifty(root):
    measured.experiment(slug="first")
    with CaptureQueriesContext(connection) as few:
        lines(Application.objects.all(), NOW)
    for number in range(49):
        looked_at(measured.experiment(slug=f"more-{number}"))
    with CaptureQueriesContext(connection) as many:
        assert len(lines(Application.objects.all(), NOW)) == 50
    assert len(many) == len(few) == 1


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (9000, "2 h 30 min"), (93_600, "1 d 2 h"), (86_460, "1 d")],
)
def test_spans_are_told_in_two_units_at_most(seconds, told):
    assert words.span(seconds) == told


@pytest.mark.parametrize(
    ("measure", "value", "told"),
    [
        ("ratio", 1.2, "1.20 ×"),
        ("share", -0.0042, "−0.42 points"),
        ("log_mean", log(1.1), "+10.0 %"),
        ("share", None, "–"),
    ],
)
def test_harm_is_told_in_the_unit_of_its_margin(measure, value, told):
    assert words.harm(measure, value) == told
