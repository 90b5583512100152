"""Which buckets belong to which arm at a given percentage. Pure.

Ranges are stored with a phase, never computed again from weights, so that what was promised to a unit stays true
whatever becomes of these functions. Two shapes:

| kind             | arms                          | ranges at `percent_bp`                                          |
|------------------|-------------------------------|-----------------------------------------------------------------|
| rollout          | one treatment and the control | treatment from bucket 0 up, an equal control from 9999 down     |
| ab, aa, holdback | two or more, with shares      | each arm has a home range and fills it from its first bucket up |

In both, raising the percentage only adds units to an arm: a unit never changes from one arm to another. The one
exception is the rollout's control above 5 000: it is what remains, and gives its units to the treatment.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from experiments.bucketing import BUCKETS, BucketRange, in_range, ramp_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FEWEST_ARMS, MOST_ARMS = 2, 20
Ranges = tuple[BucketRange, ...]


class Share(NamedTuple):
    """An arm's part of all participants, in basis points of 10 000; the shares of all arms add up to 10 000."""

    name: str
    share_bp: int
    control: bool = False


def equal_shares(names: Sequence[str]) -> list[int]:
    """Shares of equal arms: as equal as integers can be, the first ones larger by one, 10 000 together."""
    whole, rest = divmod(BUCKETS, len(names))
    return [whole + (index < rest) for index in range(len(names))]


def ranges_at(kind: str, arms: Sequence[Share], percent_bp: int) -> dict[str, Ranges]:
    """The half-open bucket ranges of each arm at `percent_bp` basis points, 0..10 000. An empty arm has no range.

    Raises ValueError when the arms do not fit the kind, or the percentage is out of range.
    """
    if not 0 <= percent_bp <= BUCKETS:
        raise ValueError(f"percentage: expected 0 to {BUCKETS} basis points, got {percent_bp}")
    require_arms(kind, arms)
    return _rollout(arms, percent_bp) if kind == "rollout" else _homes(arms, percent_bp)


def require_arms(kind: str, arms: Sequence[Share]) -> None:
    """Raises ValueError saying what was expected of the arms and what came."""
    names = [arm.name for arm in arms]
    controls = sum(arm.control for arm in arms)
    if len(set(names)) != len(names):
        raise ValueError(f"arms: expected unique names, got {', '.join(names)}")
    if not FEWEST_ARMS <= len(arms) <= MOST_ARMS:
        raise ValueError(f"arms: expected {FEWEST_ARMS} to {MOST_ARMS}, got {len(arms)}")
    if controls != 1:
        raise ValueError(f"arms: expected one control, got {controls}")
    if kind == "rollout" and len(arms) != FEWEST_ARMS:
        raise ValueError(f"arms: expected a treatment and a control for a rollout, got {', '.join(names)}")
    total = sum(arm.share_bp for arm in arms)
    if kind != "rollout" and (total != BUCKETS or min(arm.share_bp for arm in arms) < 1):
        raise ValueError(f"shares: expected positive ones that add up to {BUCKETS}, got {total} together")


def home_ranges(arms: Sequence[Share]) -> dict[str, BucketRange]:
    """The range that each arm may fill, in the order of the arms."""
    ends = list(accumulate(arm.share_bp for arm in arms))
    return {arm.name: (end - arm.share_bp, end) for arm, end in zip(arms, ends, strict=True)}


def _rollout(arms: Sequence[Share], percent_bp: int) -> dict[str, Ranges]:
    treatment, control = ramp_ranges(percent_bp)
    return {arm.name: _without_empty(control if arm.control else treatment) for arm in arms}


def _homes(arms: Sequence[Share], percent_bp: int) -> dict[str, Ranges]:
    return {
        name: _without_empty((first, first + (end - first) * percent_bp // BUCKETS))
        for name, (first, end) in home_ranges(arms).items()
    }


def _without_empty(span: BucketRange) -> Ranges:
    return (span,) if span[0] < span[1] else ()


def size(ranges: Sequence[Sequence[int]]) -> int:
    """How many of the 10 000 buckets lie in the ranges."""
    return sum(span[1] - span[0] for span in ranges)


def arm_at(ranges: Mapping[str, Sequence[Sequence[int]]], position: int) -> str | None:
    """The arm that holds a bucket, None outside all of them."""
    for name, spans in ranges.items():
        if any(in_range(position, (span[0], span[1])) for span in spans):
            return name
    return None


def moved(before: Mapping[str, Sequence[Sequence[int]]], after: Mapping[str, Sequence[Sequence[int]]]) -> int:
    """How many buckets have another arm than before, entering and leaving included."""
    spans = [span for ranges in (*before.values(), *after.values()) for span in ranges]
    edges = sorted({edge for span in spans for edge in span})
    return sum(end - first for first, end in pairwise(edges) if arm_at(before, first) != arm_at(after, first))
