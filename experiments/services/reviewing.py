"""What needs another person: the start, a step that asks for it, and going on after a halt."""

from datetime import datetime

from experiments import errors
from experiments.delivery import delivery
from experiments.lifecycle import State, Verb
from experiments.models import Approval, Experiment
from experiments.services.phases import offer_arms, open_phase
from experiments.services.recording import Deed, doing, request_publish

Awaiting = Experiment.Awaiting


def submit(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """Ask for approval of the present edition. Raises `Stale`, `WrongState`."""
    with doing(Verb.SUBMIT, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        deed.experiment.awaiting = Awaiting.START
        deed.experiment.state_reason = ""
        deed.move(State.IN_REVIEW)


def approve(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """One person's yes to what is asked for: the start, or going on after a halt. The last one needed grants it.

    Once approved, the versions of the arms go to the publisher to be signed. Raises `OwnExperiment`,
    `ApprovedAlready`, `NothingToApprove`, `Stale`, `WrongState`, and as releasing the versions would.
    """
    with doing(Verb.APPROVE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        if row.awaiting not in (Awaiting.START, Awaiting.RESUME):
            raise errors.NothingToApprove(f"expected {row} to wait for approval, it is {row.state}")
        if _is_last(deed):
            _grant(deed)


def reject(*, experiment: Experiment, actor: str, now: datetime, reason: str, row_version: int | None = None) -> None:
    """Back to a draft; approvals are void. Raises `Stale`, `WrongState`."""
    with doing(Verb.REJECT, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        deed.experiment.edition += 1
        deed.experiment.awaiting = Awaiting.NOTHING
        deed.experiment.state_reason = reason
        deed.move(State.DRAFT)


def approve_step(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """One person's yes to leaving the present step. Raises `NothingToApprove`, and as `approve`."""
    with doing(Verb.APPROVE_STEP, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        step = deed.experiment.step
        if step is None or not step.needs_approval:
            raise errors.NothingToApprove(f"expected a step that asks for approval, {deed.experiment} is at none")
        _add(deed, Awaiting.STEP)


def step_approvals_lacking(experiment: Experiment) -> int:
    """How many more people must approve leaving the present step."""
    step = experiment.step
    if step is None or not step.needs_approval:
        return 0
    given = experiment.approvals.filter(edition=experiment.edition, purpose=Awaiting.STEP).count()
    return max(0, _needed(experiment) - given)


def _is_last(deed: Deed) -> bool:
    _add(deed, deed.experiment.awaiting)
    return len(deed.experiment.approvers()) >= _needed(deed.experiment)


def _needed(experiment: Experiment) -> int:
    """At least one other person, more where the channel asks for more."""
    return max(1, delivery().approvals_required(experiment.channel))


def _add(deed: Deed, purpose: str) -> None:
    row, actor = deed.experiment, deed.actor
    if actor in row.authors:
        raise errors.OwnExperiment(f"expected approval by somebody else than {', '.join(sorted(row.authors))}")
    given = {"edition": row.edition, "purpose": purpose, "approved_by": actor}
    if row.approvals.filter(**given).exists():
        raise errors.ApprovedAlready(f"expected another person's approval, {actor} has approved {row}")
    Approval.objects.create(experiment=row, approved_at=deed.now, **given)
    deed.details |= {"approved": purpose}


def _grant(deed: Deed) -> None:
    row = deed.experiment
    if row.awaiting == Awaiting.START:
        deed.move(State.APPROVED)
        offer_arms(deed)
        request_publish(deed)
    else:
        phase = row.phase
        assert phase is not None, "what is live has a phase"
        row.halted_classes = []
        row.state_reason = ""
        deed.move(State.RUNNING if row.state == State.HALTED else State(row.state))
        # Meanwhile the control alone took units: within one phase that would be a mismatch, and halt it again.
        open_phase(deed, cause=Verb.RESUME, percent_bp=phase.percent_bp)
    row.awaiting = Awaiting.NOTHING
