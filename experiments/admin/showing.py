"""Everything that the page of one experiment shows, gathered in a bounded number of queries."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Max
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from experiments import services, words
from experiments.admin import charts, headline, panels
from experiments.admin.timeline import SHOWN, Event, timeline
from experiments.admin.verbs import offered
from experiments.lifecycle import ENDED
from experiments.models import AnalysisRun, Experiment
from experiments.policy import policy_from_json
from experiments.services.foreseeing import foresee
from registry.models import ModelVersion

MOST_POINTS = 60
EVERY_SECONDS = 5


def told(request: HttpRequest, row: Experiment, now: datetime) -> dict[str, Any]:
    events = timeline(row)
    is_all = "all" in request.GET
    return {
        "experiment": row,
        "standing": services.status(row, now),
        "headline": headline.headline(row, events, now),
        "plan": headline.plan(row),
        "verbs": offered(request, row),
        "events": events if is_all else events[:SHOWN],
        "events_left": 0 if is_all else len(events) - SHOWN,
        "design": _design(row),
        "foreseen": foresee(row, now) if row.phases.count() == 0 and row.state not in ENDED else None,
        "standing_url": reverse("admin:experiments_experiment_standing", args=[row.pk]),
        "fingerprint": fingerprint(row, now),
        "is_all": is_all,
        "is_live": row.state not in ENDED,
        "every_seconds": EVERY_SECONDS,
        **_measured(row, events),
    }


def fingerprint(row: Experiment, now: datetime) -> str:
    """Another one when the page would tell something else; each minute, since it tells how long ago things were."""
    looks = AnalysisRun.objects.filter(experiment=row).aggregate(newest=Max("pk"))
    entries = services.changes(row).aggregate(newest=Max("pk"))
    parts = [row.row_version, looks["newest"], entries["newest"], int(now.timestamp() // 60)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _design(row: Experiment) -> dict[str, Any]:
    numbers = [arm["version"] for arm in row.arms]
    versions = {version.number: version for version in ModelVersion.objects.filter(model=row.model, number__in=numbers)}
    return {
        "arms": [
            {**arm, "row": versions.get(arm["version"]), "share": words.percent(arm["share_bp"])} for arm in row.arms
        ],
        "layer_part": words.percent(row.layer_end - row.layer_first),
        "overrides": row.overrides.count(),
        "policy": panels.policy_differences(row.policy),
    }


def _measured(row: Experiment, events: Sequence[Event]) -> dict[str, Any]:
    """Of the latest look that did not fail; `failed` is the one after it, if it did."""
    newest = AnalysisRun.objects.of(row).select_related("phase").first()
    run = newest
    if newest is not None and newest.error:
        run = AnalysisRun.objects.of(row).filter(error="").select_related("phase").first()
    if run is None:
        return {"run": None, "present": None, "failed": newest}
    policy = policy_from_json(row.policy)
    arms = panels.funnel(run, row)
    return {
        "run": run,
        "present": run if run.phase.closed_at is None or row.state in ENDED else None,
        "failed": newest if newest is not run else None,
        "verdict": words.verdict(run.verdict),
        "guarded": panels.guarded(run, policy),
        "charts": over_time(row, events),
        "funnel": arms,
        "funnel_rows": panels.funnel_rows(arms),
        "wide_funnel": charts.funnel_picture(arms, width=620),
        "narrow_funnel": charts.funnel_picture(arms, width=340),
        "splits": panels.splits(run),
        "split_standing": panels.split_standing(run, policy),
        "srm": run.results.get("srm"),
        "final": panels.final_rows(run, policy),
        "class_tables": panels.class_tables(run, row.halted_classes),
    }


def over_time(row: Experiment, events: Sequence[Event]) -> list[dict[str, Any]]:
    """One small chart for each metric of each treatment."""
    looks: dict[tuple[str, str], list[charts.Look]] = {}
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for as_of, metrics in _stored(row):
        for metric in metrics or []:
            key = (metric["arm"], metric["name"])
            low, high = metric["interval"]
            look = charts.Look(as_of, metric["harm"], metric["bound"], low, high, metric["is_enough"])
            looks.setdefault(key, []).append(look)
            last[key] = metric
    marks, several = _marks(row, events), len({arm for arm, _ in looks}) > 1
    return [
        {
            "name": metric["name"].replace("_", " ") + (f", {arm}" if several else ""),
            "about": words.GUARDED.get(metric["name"], ""),
            "now": words.harm(metric["measure"], metric["harm"]),
            "picture": _picture(looks[arm, name], marks, metric),
        }
        for (arm, name), metric in last.items()
    ]


def _picture(looks: Sequence[charts.Look], marks: Sequence[charts.Mark], metric: dict[str, Any]) -> SafeString:
    title = metric["name"].replace("_", " ")
    return charts.over_time(looks, marks, measure=metric["measure"], margin=metric["margin"], title=title)


def _stored(row: Experiment) -> list[tuple[datetime, list[dict[str, Any]]]]:
    """What each metric was at up to 60 looks, the latest among them, oldest first."""
    looks = AnalysisRun.objects.filter(experiment=row, error="").order_by("as_of", "pk")
    keys = list(looks.values_list("pk", flat=True))
    step = max(1, -(-len(keys) // MOST_POINTS))
    wanted = keys[::-1][::step]
    return list(looks.filter(pk__in=wanted).values_list("as_of", "results__metrics"))


def _marks(row: Experiment, events: Sequence[Event]) -> list[charts.Mark]:
    phases = [charts.Mark(phase.opened_at, words.percent(phase.percent_bp)) for phase in row.phases.all()]
    return phases + [
        charts.Mark(event.at, event.words, is_bad=True)
        for event in events
        if event.tone == "bad" and event.source.kind != "analysis"
    ]
