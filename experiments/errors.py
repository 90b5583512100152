"""Situations of experiments, sorted into the registry's five families."""

from registry.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable


class ExperimentNotFound(NotFound):
    code = "experiment_not_found"


class WrongState(Conflict):
    """The verb cannot be said in the experiment's state."""

    code = "wrong_state"


class DesignRefused(Invalid):
    """Arms, steps or ranges do not make an experiment; the message says what to change."""

    code = "design_refused"


class LayerTaken(Conflict):
    """A live experiment holds a part of the buckets: end it, supersede it, or use others."""

    code = "layer_taken"


class OwnExperiment(NotAllowed):
    """Whoever wrote or edited it, or asked for it, cannot approve it."""

    code = "own_experiment"


class ApprovedAlready(Conflict):
    code = "already_approved"


class NothingToApprove(Conflict):
    code = "nothing_to_approve"


class StepUnmet(Conflict):
    """A condition of the present step is not met; the message names each. `ramp` does not ask for them."""

    code = "step_unmet"


class ClassNotHalted(Conflict):
    code = "class_not_halted"


class OverrideNotFound(NotFound):
    code = "override_not_found"


class NotHeldBack(NotFound):
    """No holdback is in force for the model on the channel."""

    code = "not_held_back"


class EventsUnavailable(Unavailable):
    """The event stream does not answer; nothing was done."""

    code = "events_unavailable"
