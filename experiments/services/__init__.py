"""The verbs of experiments. REST views, admin actions, commands and tasks all call these.

Each is one transaction: the row locked at the version its caller saw, the rules of `experiments.lifecycle`, one entry
of the audit log with the whole state before and after, and a `PublishRequest` when devices must hear of it.
"""

from experiments.services.designing import create, edit, layer_of
from experiments.services.due import advance_due, expire_exceptions, start_due
from experiments.services.exceptions import (
    clear_override,
    holdback_of,
    lift_holdback,
    set_holdback,
    set_override,
    told_holdback,
)
from experiments.services.following import follow, rollouts_behind, withdraw
from experiments.services.foreseeing import foresee
from experiments.services.previewing import Preview, preview, preview_holdback
from experiments.services.ramping import advance, ramp, rerandomise, supersede
from experiments.services.reading import (
    changes,
    explain,
    holdbacks,
    kept_apart,
    layer_map,
    layers,
    overdue,
    results,
    status,
)
from experiments.services.recording import SCHEDULE, subject, told
from experiments.services.reviewing import approve, approve_step, reject, submit
from experiments.services.running import archive, complete, halt, pause, resume, rollback, start
from experiments.services.waiting import plan_advice, standing_of

__all__ = [
    "SCHEDULE",
    "Preview",
    "advance",
    "advance_due",
    "approve",
    "approve_step",
    "archive",
    "changes",
    "clear_override",
    "complete",
    "create",
    "edit",
    "expire_exceptions",
    "explain",
    "follow",
    "foresee",
    "halt",
    "holdback_of",
    "holdbacks",
    "kept_apart",
    "layer_map",
    "layer_of",
    "layers",
    "lift_holdback",
    "overdue",
    "pause",
    "plan_advice",
    "preview",
    "preview_holdback",
    "ramp",
    "reject",
    "rerandomise",
    "results",
    "resume",
    "rollback",
    "rollouts_behind",
    "set_holdback",
    "set_override",
    "standing_of",
    "start",
    "start_due",
    "status",
    "subject",
    "submit",
    "supersede",
    "told",
    "told_holdback",
    "withdraw",
]
