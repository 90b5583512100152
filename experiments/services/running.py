"""Begin, hold and end what devices are told of."""

from datetime import datetime

from experiments import errors
from experiments.delivery import delivery
from experiments.lifecycle import Kind, State, Verb
from experiments.models import Experiment
from experiments.services.designing import require_ahead, require_versions, rollout_arms
from experiments.services.phases import claim, close_phase, give_back, offer_arms, open_phase
from experiments.services.recording import Deed, doing

Awaiting = Experiment.Awaiting


def start(
    *,
    experiment: Experiment,
    actor: str,
    now: datetime,
    reason: str = "",
    row_version: int | None = None,
    starts_at: datetime | None = None,
) -> None:
    """Take the buckets and serve the first step, or wait for the time that it is to start at.

    What is scheduled starts now, whatever time it waits for, unless another one is said. The control of a rollout is
    what is current now. Raises `LayerTaken`, `DesignRefused`, `Stale`, `WrongState`, and
    as releasing the arms' versions would.
    """
    with doing(Verb.START, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        require_ahead(starts_at, now, "starts_at")
        planned = starts_at or (row.starts_at if row.state == State.APPROVED else None)
        row.starts_at = starts_at or row.starts_at
        if planned is not None and planned > now:
            deed.move(State.SCHEDULED)
        else:
            _begin(deed)


def pause(*, experiment: Experiment, actor: str, now: datetime, reason: str, row_version: int | None = None) -> None:
    """Stay at the present percentage: devices keep what they have, no step follows. Raises `Stale`, `WrongState`."""
    with doing(Verb.PAUSE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        deed.experiment.state_reason = reason
        deed.move(State.PAUSED)


def resume(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """Go on after a pause; after a halt, of all or of classes, ask another person to let it go on.

    Raises `ClassNotHalted` when nothing is held, `Stale`, `WrongState`.
    """
    with doing(Verb.RESUME, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        if row.state == State.PAUSED:
            row.state_reason = ""
            deed.move(State.RUNNING)
            return
        if row.state == State.RUNNING and not row.halted_classes:
            raise errors.ClassNotHalted(f"expected a paused or halted experiment, {row} runs for every class")
        row.awaiting = Awaiting.RESUME
        row.edition += 1
        row.edited_by = actor  # and so may not approve it


def halt(
    *,
    experiment: Experiment,
    actor: str,
    now: datetime,
    reason: str,
    row_version: int | None = None,
    device_class: str | None = None,
) -> None:
    """Freeze: who runs the treatment keeps it, nobody else gets it. Of one device class, or of all.

    Needs one person. Raises `DesignRefused` for a class that the application has not, `Stale`, `WrongState`.
    """
    with doing(Verb.HALT, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        if device_class is None:
            deed.move(State.HALTED)
        else:
            _halt_class(row, device_class)
            deed.details |= {"device_class": device_class}
        row.state_reason = reason
        row.awaiting = Awaiting.NOTHING
        deed.publishes = True


def rollback(*, experiment: Experiment, actor: str, now: datetime, reason: str, row_version: int | None = None) -> None:
    """End it and let every unit return to the current release. Needs one person. Raises `Stale`, `WrongState`."""
    with doing(Verb.ROLLBACK, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        end(deed, State.ROLLED_BACK)


def complete(
    *,
    experiment: Experiment,
    actor: str,
    now: datetime,
    reason: str = "",
    row_version: int | None = None,
    winner: str | None = None,
) -> None:
    """End it. The winner's version becomes the channel's current release; a rollout's winner is its treatment.

    Without a winner, which a rollout cannot be, it is `stopped` and the current release stays. Raises `DesignRefused`,
    `Stale`, `WrongState`, and as releasing would.
    """
    with doing(Verb.COMPLETE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        settle(deed, winner)


def settle(deed: Deed, winner: str | None = None) -> None:
    """End with the winner made current."""
    row = deed.experiment
    if winner is None and row.kind == Kind.ROLLOUT:
        winner = next(arm["name"] for arm in row.arms if not arm["control"])
    if winner is None:
        end(deed, State.STOPPED)
        return
    delivery().make_current(
        channel=row.channel,
        version=row.model.versions.get(number=_won(row, winner)),
        actor=deed.actor,
        now=deed.now,
        reason=f"{row} completed: {deed.reason or winner}",
    )
    deed.details |= {"winner": winner}
    end(deed, State.COMPLETED)


def archive(
    *, experiment: Experiment, actor: str, now: datetime, reason: str = "", row_version: int | None = None
) -> None:
    """Put it aside. Raises `Stale`, `WrongState`."""
    with doing(Verb.ARCHIVE, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        deed.move(State.ARCHIVED)


def _begin(deed: Deed) -> None:
    row = deed.experiment
    if row.kind == Kind.ROLLOUT:
        treatment = next(arm["version"] for arm in row.arms if not arm["control"])
        row.arms = rollout_arms(row.channel, row.model, treatment)
    require_versions(row.model, [arm["version"] for arm in row.arms])
    claim(deed)
    offer_arms(deed)
    first = row.steps.first()
    assert first is not None, "a design has at least one step"
    row.step_position = first.position
    row.started_at = deed.now
    deed.move(State.RUNNING)
    open_phase(deed, cause=deed.verb, percent_bp=first.percent_bp)


def _halt_class(row: Experiment, device_class: str) -> None:
    known = row.application.device_classes.values_list("name", flat=True)
    if device_class not in known:
        raise errors.DesignRefused(
            f"expected a device class of {row.application} ({', '.join(known)}), got {device_class!r}",
            field="device_class",
        )
    row.halted_classes = sorted({*row.halted_classes, device_class})


def _won(row: Experiment, winner: str) -> int:
    versions = {arm["name"]: arm["version"] for arm in row.arms}
    if versions.get(winner) is None:
        able = ", ".join(name for name, version in versions.items() if version is not None)
        raise errors.DesignRefused(f"expected an arm with a version ({able}), got {winner!r}", field="winner")
    return int(versions[winner])


def end(deed: Deed, state: State) -> None:
    row = deed.experiment
    close_phase(deed)
    give_back(deed)
    row.awaiting = Awaiting.NOTHING
    row.ended_at = deed.now
    row.state_reason = deed.reason
    deed.publishes = True
    deed.move(state)
