"""The present state of every experiment, from nothing but the audit log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUBJECT = "experiment "
Entry = tuple[str, "Mapping[str, Any] | None", "Mapping[str, Any] | None"]


class LogGap(ValueError):
    """An entry does not follow from the one before it of the same experiment: one is missing, or was changed."""


def rebuild(entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """The last state by subject, of (subject, before, after) in the order of the log. Raises LogGap.

    Entries of other subjects are passed over. `details` of an entry tell of the verb, not of the state.
    """
    states: dict[str, dict[str, Any]] = {}
    for subject, before, after in entries:
        if not subject.startswith(SUBJECT):
            continue
        known = states.get(subject)
        if before != known:
            raise LogGap(f"{subject}: expected the state that the entry before it left, {known}, got {before}")
        states[subject] = {name: value for name, value in (after or {}).items() if name != "details"}
    return states
