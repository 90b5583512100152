"""States of an experiment, the verbs that lead from one to another, and who may say them. Pure.

| verb         | from                                      | to          | least role | besides                        |
|--------------|-------------------------------------------|-------------|------------|--------------------------------|
| edit         | draft, in_review, approved, scheduled     | draft       | editor     | voids approvals                |
| submit       | draft                                     | in_review   | editor     |                                |
| approve      | in_review                                 | approved    | releaser   | another person than an author  |
| reject       | in_review, approved, scheduled            | draft       | releaser   |                                |
| start        | approved                                  | running     | releaser   | `scheduled` until its time     |
| start        | scheduled                                 | running     | releaser   | `scheduled` at another time    |
| pause        | running                                   | paused      | releaser   |                                |
| resume       | paused                                    | running     | releaser   |                                |
| resume       | halted                                    | halted      | releaser   | asks for approval              |
| resume       | running                                   | the same    | releaser   | of halted classes: the same    |
| approve      | halted                                    | running     | releaser   | once resume was asked for      |
| approve      | running, paused                           | the same    | releaser   | of halted classes: the same    |
| advance      | running                                   | running     | releaser   | `completed` after the last one |
| approve_step | running, paused                           | the same    | releaser   | another person than an author  |
| ramp         | running, paused                           | the same    | releaser   |                                |
| supersede    | running, paused, halted                   | the same    | releaser   |                                |
| rerandomise  | running, paused                           | the same    | releaser   |                                |
| halt         | running, paused                           | halted      | releaser   | of one class: the same         |
| rollback     | running, paused, halted                   | rolled_back | releaser   |                                |
| complete     | running, paused                           | completed   | releaser   | `stopped` without a winner     |
| archive      | draft, rolled_back, completed, stopped    | archived    | editor     |                                |
| follow       | running, paused, halted                   | the same    | releaser   | said by nobody; or `completed` |

Whatever is not in the table is refused. `halt` and `rollback` need one person and no approval: stopping is always
possible. What the server does by itself it does under these same rules. `follow` is what a rollout does when its
channel's release is another: that becomes its control, or ends it where it is the treatment itself.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    ROLLOUT = "rollout"
    AB = "ab"
    AA = "aa"
    HOLDBACK = "holdback"


class State(StrEnum):
    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    ROLLED_BACK = "rolled_back"
    COMPLETED = "completed"
    STOPPED = "stopped"
    ARCHIVED = "archived"


class Verb(StrEnum):
    EDIT = "edit"
    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    APPROVE_STEP = "approve_step"
    RAMP = "ramp"
    SUPERSEDE = "supersede"
    RERANDOMISE = "rerandomise"
    HALT = "halt"
    ROLLBACK = "rollback"
    COMPLETE = "complete"
    ARCHIVE = "archive"
    FOLLOW = "follow"


S, V = State, Verb
_ACTIVE = (S.RUNNING, S.PAUSED)
_STARTED = (S.RUNNING, S.PAUSED, S.HALTED)

# Devices are told of these, and each holds its part of a layer.
SERVED = frozenset(_STARTED)
LIVE = SERVED
ENDED = frozenset({S.ROLLED_BACK, S.COMPLETED, S.STOPPED, S.ARCHIVED})
# Guardrails look at these, the ones that wait for somebody's approval included.
GUARDED = frozenset(_STARTED)
# Who may say a verb is told by the lowest role, as `registry.models.Role` names it.
ROLES = {verb: "editor" if verb in {V.EDIT, V.SUBMIT, V.ARCHIVE} else "releaser" for verb in Verb}
# What another person than the authors must say.
OF_ANOTHER_PERSON = frozenset({V.APPROVE, V.APPROVE_STEP})
# What nobody need approve, whatever waits for approval.
OF_ONE_PERSON = frozenset({V.HALT, V.ROLLBACK})
# What no person says: it comes of what was released.
OF_NOBODY = frozenset({V.FOLLOW})

# (verb, from) -> the states it may lead to.
TRANSITIONS: dict[tuple[Verb, State], frozenset[State]] = {
    **{(V.EDIT, state): frozenset({S.DRAFT}) for state in (S.DRAFT, S.IN_REVIEW, S.APPROVED, S.SCHEDULED)},
    (V.SUBMIT, S.DRAFT): frozenset({S.IN_REVIEW}),
    (V.APPROVE, S.IN_REVIEW): frozenset({S.IN_REVIEW, S.APPROVED}),
    (V.APPROVE, S.HALTED): frozenset({S.HALTED, S.RUNNING}),
    **{(V.APPROVE, state): frozenset({state}) for state in _ACTIVE},
    **{(V.REJECT, state): frozenset({S.DRAFT}) for state in (S.IN_REVIEW, S.APPROVED, S.SCHEDULED)},
    (V.START, S.APPROVED): frozenset({S.SCHEDULED, S.RUNNING}),
    (V.START, S.SCHEDULED): frozenset({S.SCHEDULED, S.RUNNING}),
    (V.PAUSE, S.RUNNING): frozenset({S.PAUSED}),
    (V.RESUME, S.PAUSED): frozenset({S.RUNNING}),
    (V.RESUME, S.HALTED): frozenset({S.HALTED}),
    (V.RESUME, S.RUNNING): frozenset({S.RUNNING}),
    (V.ADVANCE, S.RUNNING): frozenset({S.RUNNING, S.COMPLETED}),
    **{(verb, state): frozenset({state}) for verb in (V.APPROVE_STEP, V.RAMP, V.RERANDOMISE) for state in _ACTIVE},
    **{(V.SUPERSEDE, state): frozenset({state}) for state in _STARTED},
    **{(V.HALT, state): frozenset({state, S.HALTED}) for state in _ACTIVE},
    **{(V.ROLLBACK, state): frozenset({S.ROLLED_BACK}) for state in _STARTED},
    **{(V.COMPLETE, state): frozenset({S.COMPLETED, S.STOPPED}) for state in _ACTIVE},
    **{(V.ARCHIVE, state): frozenset({S.ARCHIVED}) for state in (S.DRAFT, S.ROLLED_BACK, S.COMPLETED, S.STOPPED)},
    **{(V.FOLLOW, state): frozenset({state, S.COMPLETED}) for state in _STARTED},
}


class WrongState(ValueError):
    """The verb does not fit the state."""


def require(verb: Verb, state: str) -> frozenset[State]:
    """The states that the verb may lead to from here. Raises WrongState naming those it can be said in."""
    found = TRANSITIONS.get((verb, State(state)))
    if found is None:
        possible = ", ".join(known.value for said, known in TRANSITIONS if said is verb)
        raise WrongState(f"expected a state to {verb} from ({possible}), got {state}")
    return found


def verbs_of(state: str) -> list[Verb]:
    """What a person may say now, in the order of the table."""
    return [verb for verb in Verb if (verb, State(state)) in TRANSITIONS and verb not in OF_NOBODY]
