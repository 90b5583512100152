"""One entry of the event stream as lines of PostgreSQL's COPY. Knows no database.

Only what makes sense of the batch is done here; whether a value fits its column PostgreSQL says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from experiments.attribution import FrozenArm, FrozenPhase
from experiments.funnel import CRASH_CODE, INTEGRITY_CODES, LOADING_STAGES, RANK

COLUMNS = (
    "event_id", "application", "unit", "received_at", "at", "stage", "outcome", "model", "version", "variant",
    "duration_ms", "size_bytes", "error", "histogram", "profile", "channel", "phase_id", "arm", "device_class",
)  # fmt: skip
# What the staging table has besides, for the events that belong to an arm.
MARKS = ("reached", "failed", "is_assigned", "is_crash", "is_load_failure", "is_fallback", "is_integrity")
NULL = "\\N"


class Placement(NamedTuple):
    """The phase and arm that a device's events of one model belong to at one time."""

    phase: FrozenPhase
    arm: FrozenArm
    device_class: str


class Lines(NamedTuple):
    """`ids` of the events, lower-case text, in the order of the lines.

    `experiments`: those that some event belongs to; `alarmed`: those of them that it is urgent to look at.
    """

    ids: list[str]
    lines: list[str]
    experiments: frozenset[int]
    alarmed: frozenset[int]


def escaped(text: str) -> str:
    """As COPY's text format wants it."""
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text


def read_batch(fields: Mapping[str, str]) -> tuple[dict[str, Any], datetime]:
    """(the batch, when it was received). Raises ValueError, KeyError or TypeError on what is no batch."""
    batch = json.loads(fields["batch"])
    if not isinstance(batch["events"], list):
        raise TypeError(f"events: expected a list, got {batch['events']!r}")
    return batch, parse_time(fields["received_at"])


def lines_of(
    batch: Mapping[str, Any],
    received_at: datetime,
    fields: Mapping[str, str],
    placed: Callable[[str, datetime], Placement | None] | None,
) -> Lines:
    """A line of COLUMNS and MARKS for each event. `placed` None: no model of the application has an experiment.

    Raises ValueError, KeyError or TypeError on what is no event.
    """
    skew = _skew(batch.get("sent_at"), received_at)
    head = f"{escaped(fields['application'])}\t{escaped(fields.get('unit', ''))}\t{received_at.isoformat()}"
    tail = f"{escaped(json.dumps(batch.get('profile') or {}))}\t{escaped(batch.get('channel') or '')}"
    ids, lines = [], []
    experiments: set[int] = set()
    alarmed: set[int] = set()
    for event in batch["events"]:
        at = min(parse_time(event["at"]) + skew, received_at)
        placement = placed(event["model"], at) if placed else None
        if placement is not None:
            experiments.add(placement.phase.experiment)
            if event.get("error") in INTEGRITY_CODES:
                alarmed.add(placement.phase.experiment)
        ids.append(escaped(event["id"].lower()))
        lines.append(f"{ids[-1]}\t{head}\t{_facts(event, at)}\t{tail}\t{_marks(event, placement)}\n")
    return Lines(ids, lines, frozenset(experiments), frozenset(alarmed))


def _facts(event: Mapping[str, Any], at: datetime) -> str:
    """From `at` to `histogram`."""
    get = event.get
    version, ms, size, histogram = get("version"), get("ms"), get("bytes"), get("histogram")
    variant, error = get("variant"), get("error")
    numbers = f"{{{','.join(map(str, histogram))}}}" if histogram is not None else NULL
    return "\t".join(
        (
            at.isoformat(),
            escaped(event["stage"]),
            escaped(event["outcome"]),
            escaped(event["model"]),
            NULL if version is None else f"{version:d}",
            escaped(variant) if variant else "",
            NULL if ms is None else f"{ms:d}",
            NULL if size is None else f"{size:d}",
            escaped(error) if error else "",
            escaped(numbers) if histogram is not None else NULL,
        )
    )


_NOT_PLACED = f"{NULL}\t\t\t-1\t-1\tf\tf\tf\tf\tf"


def _marks(event: Mapping[str, Any], placement: Placement | None) -> str:
    """From `phase_id` on. An event of another version than the arm's says nothing of what the arm does.

    But an assignment, if a floor comes before that version.
    """
    if placement is None:
        return _NOT_PLACED
    head = f"{placement.phase.key}\t{escaped(placement.arm.name)}\t{escaped(placement.device_class)}"
    version, stage, error = event.get("version"), event["stage"], event.get("error") or ""
    rank = RANK.get(stage, -1)
    is_fallback = stage == "fallback" and error != ""  # its version is the one fallen back to; an order has no error
    if version is not None and version != placement.arm.version:
        is_assigned = rank == 0 and event["outcome"] != "failed" and _is_on_its_way(event, placement)
        reached, flag = (0, "t") if is_assigned else (-1, "f")
        return f"{head}\t{reached}\t-1\t{flag}\tf\tf\t{'t' if is_fallback else 'f'}\tf"
    has_failed = event["outcome"] == "failed"
    is_crash = stage == "rollback" or (has_failed and error == CRASH_CODE)
    flags = (
        not has_failed and rank == 0 and version == placement.arm.version and _is_told_of(event, placement.phase),
        is_crash,
        has_failed and stage in LOADING_STAGES and not is_crash,
        is_fallback,
        has_failed and error in INTEGRITY_CODES,
    )
    marks = "\t".join("t" if flag else "f" for flag in flags)
    return f"{head}\t{-1 if has_failed else rank}\t{rank if has_failed else -1}\t{marks}"


def _is_told_of(event: Mapping[str, Any], phase: FrozenPhase) -> bool:
    """Whether the decision that is reported was one of this phase; True from an SDK that does not say.

    A phase is open here before devices are told of it. Who polls in between runs the current release, which is the
    control's version: counted, each of them would be a unit of the control without its counterpart.
    """
    told: int | None = event.get("phase")
    return told is None or (told, event.get("experiment")) == (phase.number, phase.slug)


def _is_on_its_way(event: Mapping[str, Any], placement: Placement) -> bool:
    """Whether a decision of this phase that names another version than the arm's names a floor, which comes before it.

    An arm without floors has all its units at once; were these left out of the other, the split would seem skewed. A
    halted arm's decision names the control's version: that unit is not given what its arm is.
    """
    phase = placement.phase
    is_halted = phase.is_frozen or placement.device_class in phase.halted_classes
    return not is_halted and event.get("phase") is not None and _is_told_of(event, phase)


def _skew(sent_at: str | None, received_at: datetime) -> timedelta:
    """How far the device's clock is behind ours, the travel time of the batch included."""
    return received_at - parse_time(sent_at) if sent_at else timedelta(0)


def parse_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
