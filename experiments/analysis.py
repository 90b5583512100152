"""Look at an experiment: count, measure, judge, write it down. What follows from it `experiments.services` does.

A look that changes nothing is written down again after an hour at the latest, so that `as_of` tells whether looks are
still taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Q

from experiments import services
from experiments.announcing import announce_hold
from experiments.before_values import collect_before_values
from experiments.funnel import DEADLINE_AFTER_ACTIVATION
from experiments.lifecycle import SERVED, State
from experiments.measuring import Cell, Counted, PhaseCounts, evidence_of, results
from experiments.models import AnalysisRun, Experiment, Exposure, MetricRollup, Phase
from experiments.policy import Action, Evidence, Policy, Progress, Verdict, judge, policy_from_json
from experiments.rollups import roll_up
from experiments.statistics.estimates import Moments, PairedMoments
from registry.errors import DomainError
from registry.locks import session_lock

logger = logging.getLogger(__name__)
ACTOR = "guardrails"
LOOKS_LOCK = 0x4145524C  # "AERL": the first half of the advisory lock's key
WRITTEN_ANEW = timedelta(hours=1)
SETTLED_AFTER = DEADLINE_AFTER_ACTIVATION + timedelta(days=1)
_TIERS = ("os", "app_version")
_MOST_GROUPS = 50


def latest(experiment: Experiment) -> AnalysisRun | None:
    """The last look at the present phase."""
    phase = experiment.phase
    return AnalysisRun.objects.of(experiment).filter(phase=phase).first() if phase else None


def analyse(experiment: Experiment, now: datetime) -> AnalysisRun | None:
    """One look. None for an experiment that was never started."""
    phase = experiment.phases.last()
    if phase is None:
        return None
    policy = policy_from_json(experiment.policy)
    phases = _comparable(experiment, phase)
    for each in phases:
        if each == phase or not _is_settled(each, now) or not MetricRollup.objects.filter(phase=each).exists():
            collect_before_values(each)
            roll_up(each, now, slo_ms=policy.slo_ms)
    counted = count(experiment, phases, now)
    evidence = evidence_of(counted, policy)
    # Time, sample and approval are the plan's; without a single unit nothing was measured.
    verdict = judge(evidence, Progress(units=counted.smallest_arm), policy)
    return _write(experiment, phase, now, verdict, counted, policy)


def _is_settled(phase: Phase, now: datetime) -> bool:
    """Closed so long ago that nothing is added any more: a device was off for a day, a silent one counts as lost."""
    return phase.closed_at is not None and now - phase.closed_at > SETTLED_AFTER


def _comparable(experiment: Experiment, present: Phase) -> list[Phase]:
    """Phases of the same seed whose arms have the versions of the present one, oldest first."""
    versions = _versions(present)
    rows = experiment.phases.filter(seed=present.seed).prefetch_related("arms").order_by("number")
    return [row for row in rows if _versions(row) == versions]


def _versions(phase: Phase) -> dict[str, int | None]:
    return {arm.name: arm.model_version_id for arm in phase.arms.all()}


def count(experiment: Experiment, phases: Sequence[Phase], now: datetime) -> Counted:
    """What the rollups hold of the phases, the present one last."""
    present = phases[-1]
    arms = list(present.arms.all())
    heard = MetricRollup.objects.filter(phase=present).aggregate(at=Max("heard_at"))["at"]
    treatments = [arm.name for arm in arms if not arm.is_control]
    return Counted(
        phases=[PhaseCounts(_cells(phase), _shares(phase)) for phase in phases],
        control=next(arm.name for arm in arms if arm.is_control),
        treatments=treatments,
        halted_classes=tuple(experiment.halted_classes),
        groups=_groups(present),
        tiers=_tiers(experiment, present),
        integrity_units=integrity_units(phases, treatments),
        silent_seconds=max(0.0, (now - max(present.opened_at, heard or present.opened_at)).total_seconds()),
        is_halted=experiment.state == State.HALTED,
    )


def _cells(phase: Phase) -> dict[tuple[str, str], Cell]:
    cells: dict[tuple[str, str], Cell] = defaultdict(Cell)
    for row in MetricRollup.objects.filter(phase=phase):
        cells[row.arm, row.device_class] += _cell(row)
    return dict(cells)


def _cell(row: MetricRollup) -> Cell:
    return Cell(
        row.units, row.crashed, row.load_failed, row.fell_back, row.integrity,
        tuple(row.reached), tuple(row.failed), tuple(row.lost),
        Moments(row.latency_units, row.latency_total, row.latency_squares), row.slow, _paired(row),
    )  # fmt: skip


def _paired(row: MetricRollup) -> PairedMoments:
    return PairedMoments(
        Moments(row.paired_units, row.paired_total, row.paired_squares),
        Moments(row.paired_units, row.before_total, row.before_squares),
        row.products,
    )


def _shares(phase: Phase) -> dict[str, float]:
    return {arm: share for arm, share in phase.expected_shares.items() if share > 0}


def _groups(phase: Phase) -> dict[str, list[int]]:
    """Assigned units of the largest groups by OS and by app version, in the order of the shares.

    Whole groups: one of which an arm is left out would look like a mismatch. All units are read once for both.
    """
    arms = list(_shares(phase))
    assigned = Exposure.objects.filter(phase=phase, assigned_at__isnull=False, arm__in=arms)
    rows = list(assigned.values_list("arm", *_TIERS).annotate(units=Count("pk")))
    found: dict[str, list[int]] = {}
    for place, name in enumerate(_TIERS, start=1):
        counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(arms))
        for row in rows:
            counts[row[place]][arms.index(row[0])] += row[-1]
        largest = sorted((-sum(units), group) for group, units in counts.items())[:_MOST_GROUPS]
        found |= {f"{name} {group or 'unknown'}": counts[group] for _, group in largest}
    return found


def _tiers(experiment: Experiment, present: Phase) -> dict[str, str]:
    """Small classes join those of the same OS: the first one their selector names, when the phase began."""
    kept = present.eligibility.get("class_rules")
    rows = experiment.application.device_classes.values("name", "selector") if kept is None else kept
    return {row["name"]: str((row["selector"].get("os") or ["other"])[0]) for row in rows}


def integrity_units(phases: Sequence[Phase], treatments: Sequence[str]) -> int:
    """Distinct units of the treatments that refused files as not genuine, whether assigned or not."""
    rows = Exposure.objects.filter(phase__in=phases, arm__in=treatments, integrity_at__isnull=False)
    return rows.values("unit").distinct().count()


def errors_in_row(experiment: Experiment, now: datetime) -> int:
    """How many of the latest looks failed."""
    runs = AnalysisRun.objects.of(experiment).until(now)
    fine = runs.filter(error="").first()
    since = Q(as_of__gt=fine.as_of) | Q(as_of=fine.as_of, pk__gt=fine.pk) if fine else Q()
    return runs.filter(since).exclude(error="").count()


def _write(
    experiment: Experiment, phase: Phase, now: datetime, verdict: Verdict, counted: Counted, policy: Policy
) -> AnalysisRun:
    inputs = inputs_hash(counted, policy)
    last = AnalysisRun.objects.of(experiment).until(now).first()
    same = (phase.pk, "", inputs, verdict.action.value, list(verdict.reasons))
    known = last and (last.phase_id, last.error, last.inputs_hash, last.verdict, last.reasons)
    if last and known == same and now - last.as_of < WRITTEN_ANEW:
        return last
    with transaction.atomic():
        run = AnalysisRun.objects.create(
            experiment=experiment,
            phase=phase,
            as_of=now,
            inputs_hash=inputs,
            verdict=verdict.action.value,
            reasons=list(verdict.reasons),
            classes=list(verdict.classes),
            units=counted.smallest_arm,
            results=results(counted, policy),
        )
        _announce(experiment, run, now)
    return run


def _announce(experiment: Experiment, run: AnalysisRun, now: datetime) -> None:
    """Tell of a hold when it begins. A look that failed in between neither began nor ended it."""
    if run.verdict != Action.HOLD:
        return
    failed = Q(verdict=Action.INCONCLUSIVE.value) & ~Q(error="")
    before = AnalysisRun.objects.of(experiment).until(now).exclude(pk=run.pk).exclude(failed).first()
    if before is None or before.verdict != Action.HOLD:
        announce_hold(experiment, run.reasons, now)


def inputs_hash(counted: Counted, policy: Policy) -> str:
    """Of all counts, shares and rules that went into a look; of time only for how many hours there is no data."""
    is_silent = counted.silent_seconds >= policy.silence_seconds
    facts = {item.name: getattr(counted, item.name) for item in fields(counted)} | {
        "phases": [
            [[[arm, name, repr(cell)] for (arm, name), cell in sorted(phase.cells.items())], dict(phase.shares)]
            for phase in counted.phases
        ],
        "silent_seconds": round(counted.silent_seconds / 3600) if is_silent else None,
        "policy": repr(policy),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def record_error(experiment: Experiment, now: datetime, error: Exception) -> AnalysisRun | None:
    """A look that failed is no bad result: until the policy's number in a row the plan waits, then it holds."""
    phase = experiment.phases.last()
    if phase is None:
        return None
    failed = errors_in_row(experiment, now) + 1
    held = judge(Evidence(errors_in_row=failed), Progress(units=1), _policy(experiment))
    is_held = held.action is Action.HOLD
    with transaction.atomic():
        run = AnalysisRun.objects.create(
            experiment=experiment,
            phase=phase,
            as_of=now,
            verdict=held.action.value if is_held else Action.INCONCLUSIVE.value,
            reasons=[*(held.reasons if is_held else ()), f"the analysis failed: {error}"],
            error=repr(error),
        )
        _announce(experiment, run, now)
    return run


def _policy(experiment: Experiment) -> Policy:
    """The default one where its own is what cannot be read."""
    try:
        return policy_from_json(experiment.policy)
    except ValueError:
        return Policy()


def look(experiment: Experiment, now: datetime) -> AnalysisRun | None:
    """Analyse and apply; what goes wrong in the analysis is written down instead."""
    try:
        run = analyse(experiment, now)
    except Exception as error:
        logger.exception("analysis failed: experiment=%s", experiment)
        return record_error(experiment, now, error)
    if run is not None:
        apply(experiment, run, now)
    return run


def apply(experiment: Experiment, run: AnalysisRun, now: datetime) -> None:
    """Stop what the verdict stops. Advancing, and holding, are the plan's own: it reads the latest look.

    Nothing, if the phase that was looked at is over: another version may have taken the treatment's place meanwhile.
    """
    said: dict[str, Any] = {"actor": ACTOR, "now": now, "reason": "; ".join(run.reasons)[:2000]}
    try:
        if not Phase.objects.filter(pk=run.phase_id, closed_at=None).exists():
            logger.warning("verdict not applied: experiment=%s verdict=%s phase is over", experiment, run.verdict)
        elif run.verdict == Action.ROLLBACK:
            services.rollback(experiment=experiment, **said)
        elif experiment.state in (State.RUNNING, State.PAUSED):
            _halt(experiment, run, said)
    except DomainError as error:  # somebody was faster; the next look sees what is then
        logger.warning("verdict not applied: experiment=%s verdict=%s error=%s", experiment, run.verdict, error)


def _halt(experiment: Experiment, run: AnalysisRun, said: Mapping[str, Any]) -> None:
    known = set(experiment.application.device_classes.values_list("name", flat=True))
    wanted = set(run.classes) - set(experiment.halted_classes)
    for device_class in sorted(wanted & known):
        # Two looks that overlap would both halt it, and the log would tell of it twice.
        version = experiment.row_version
        services.halt(experiment=experiment, device_class=device_class, row_version=version, **said)
    # Results go by the classes that the phase began with; devices of one that is gone are served by other rules.
    if run.verdict == Action.HALT or wanted - known:
        services.halt(experiment=experiment, **said)


def look_at_all(now: datetime) -> int:
    """Every served experiment: guardrails hold while it runs, is paused or halted, or waits for approval.

    Each by itself and as it is when its turn comes. What goes wrong with one keeps no other from being looked at. Only
    one process at a time does this; returns how many it looked at.
    """
    with session_lock(LOOKS_LOCK, 0, waits=False) as is_alone:
        if not is_alone:
            logger.warning("looks take longer than the time between them, passed over")
            return 0
        served = list(Experiment.objects.filter(state__in=SERVED).order_by("pk").values_list("pk", flat=True))
        for number in served:
            try:
                experiment = Experiment.objects.served().filter(pk=number).first()
                if experiment is not None:
                    look(experiment, now)
            except Exception:
                logger.exception("look failed: experiment=%s", number)
        return len(served)
