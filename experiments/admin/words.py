"""States, verdicts and kinds as coloured words."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from experiments.lifecycle import State
from experiments.policy import Action

STATES: dict[str, tuple[str, str]] = {
    State.DRAFT: ("draft", "calm"),
    State.IN_REVIEW: ("in review", "warn"),
    State.APPROVED: ("approved", "busy"),
    State.SCHEDULED: ("scheduled", "busy"),
    State.RUNNING: ("running", "good"),
    State.PAUSED: ("paused", "warn"),
    State.HALTED: ("halted", "bad"),
    State.ROLLED_BACK: ("rolled back", "bad"),
    State.COMPLETED: ("completed", "good"),
    State.STOPPED: ("stopped", "calm"),
    State.ARCHIVED: ("archived", "calm"),
}
VERDICTS: dict[str, tuple[str, str]] = {
    Action.ADVANCE: ("advance", "good"),
    Action.INCONCLUSIVE: ("inconclusive", "calm"),
    Action.HOLD: ("hold", "warn"),
    Action.HALT_CLASS: ("halt a class", "bad"),
    Action.HALT: ("halt", "bad"),
    Action.ROLLBACK: ("roll back", "bad"),
}


def state(name: str) -> SafeString:
    return badge(*STATES[name])


def verdict(name: str) -> SafeString:
    return badge(*VERDICTS[name])


def badge(words: str, tone: str) -> SafeString:
    """A coloured word; the word alone is enough to understand it."""
    return format_html('<span class="ag-state ag-{}">{}</span>', tone, words)
