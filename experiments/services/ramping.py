"""Whatever alters the split. Each opens a new phase; only `rerandomise` draws a new seed."""

from datetime import datetime

from experiments import errors
from experiments.bucketing import BUCKETS
from experiments.lifecycle import Kind, Verb
from experiments.models import Experiment
from experiments.services.designing import require_versions
from experiments.services.phases import offer_arms, open_phase
from experiments.services.recording import doing
from experiments.services.running import settle
from experiments.services.waiting import plan_advice


def ramp(
    *,
    experiment: Experiment,
    to_bp: int,
    actor: str,
    now: datetime,
    reason: str,
    row_version: int | None = None,
) -> None:
    """Set the percentage, up or down, whatever the plan says; the plan goes on from the step that this reaches.

    Raises `DesignRefused`, `Stale`, `WrongState`.
    """
    with doing(Verb.RAMP, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        phase = row.phase
        if not 0 <= to_bp <= BUCKETS:
            raise errors.DesignRefused(f"expected 0 to {BUCKETS} basis points, got {to_bp}", field="to_bp")
        if phase is not None and phase.percent_bp == to_bp:
            raise errors.DesignRefused(f"expected another percentage than {to_bp}, which {row} is at", field="to_bp")
        reached = row.steps.filter(percent_bp__lte=to_bp).last()
        row.step_position = reached.position if reached else None
        open_phase(deed, cause=deed.verb, percent_bp=to_bp)


def advance(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """Go to the next step of the plan; from the last, a rollout that reaches everybody is completed.

    Raises `StepUnmet` naming each condition of the present step that is not met, `Stale`, `WrongState`.
    """
    with doing(Verb.ADVANCE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        advice = plan_advice(row, now)
        if advice.unmet:
            raise errors.StepUnmet(f"expected the step's conditions to be met: {'; '.join(map(str, advice.unmet))}")
        following = row.next_step
        if following is not None:
            row.step_position = following.position
            open_phase(deed, cause=deed.verb, percent_bp=following.percent_bp)
        else:
            settle(deed)


def supersede(
    *,
    experiment: Experiment,
    version: int,
    actor: str,
    now: datetime,
    reason: str,
    row_version: int | None = None,
    arm: str | None = None,
) -> None:
    """Put another version in the place of an arm's: of the one treatment, or of the arm named. A fix needs no approval.

    The same units, the same seed, a new phase; the step's time begins anew. A halted experiment stays halted.
    Raises `DesignRefused`, `Stale`, `WrongState`, and as releasing the version would.
    """
    with doing(Verb.SUPERSEDE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row, phase = deed.experiment, deed.experiment.phase
        assert phase is not None, "what is live has a phase"
        require_versions(row.model, [version])
        name = _superseded(row, arm)
        _require_another_than_the_control(row, version)
        row.arms = [{**known, "version": version} if known["name"] == name else known for known in row.arms]
        offer_arms(deed)
        open_phase(deed, cause=deed.verb, percent_bp=phase.percent_bp)


def rerandomise(
    *, experiment: Experiment, actor: str, now: datetime, reason: str, row_version: int | None = None
) -> None:
    """Draw all units anew, at the same percentage: what was measured before is closed. Raises `Stale`, `WrongState`."""
    with doing(Verb.RERANDOMISE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        phase = deed.experiment.phase
        assert phase is not None, "what is live has a phase"
        deed.experiment.seed += 1
        open_phase(deed, cause=deed.verb, percent_bp=phase.percent_bp)


def _require_another_than_the_control(row: Experiment, version: int) -> None:
    control = next(known["version"] for known in row.arms if known["control"])
    if row.kind == Kind.ROLLOUT and version == control:
        raise errors.DesignRefused(
            f"expected another version than {version}, which the control has; rolling back brings everybody to it",
            field="version",
        )


def _superseded(row: Experiment, arm: str | None) -> str:
    able = [known["name"] for known in row.arms if not (row.kind == Kind.ROLLOUT and known["control"])]
    treatments = [known["name"] for known in row.arms if not known["control"]]
    name = arm or (treatments[0] if len(treatments) == 1 else "")
    if name not in able:
        raise errors.DesignRefused(f"expected the name of an arm ({', '.join(able)}), got {arm!r}", field="arm")
    return name
