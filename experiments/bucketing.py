"""Which of 10 000 buckets a unit falls into under a salt. Pure.

The function is Mozilla Nimbus', unchanged, so that its public vectors bind ours: SHA-256 over the compact JSON
`[unit, salt]`, of which the first 48 bits are compared with the boundaries floor(i / 10000 * (2**48 - 1)) computed in
IEEE 754 double precision (application-services: components/nimbus/src/sampling.rs).
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256
from math import floor

BUCKETS = 10_000
HASH_VERSION = "nimbus-48"

_HASH_BYTES = 6
_LARGEST_HASH = 2 ** (8 * _HASH_BYTES) - 1
# Double precision, not integers: 100 of the 10 001 boundaries differ by one from the exact quotient.
BOUNDARIES: tuple[int, ...] = tuple(floor(index / BUCKETS * float(_LARGEST_HASH)) for index in range(BUCKETS + 1))

BucketRange = tuple[int, int]


def truncated_json_hash(text: str) -> bytes:
    """The first six bytes of SHA-256 over a JSON text."""
    return sha256(text.encode("ascii")).digest()[:_HASH_BYTES]


def truncated_hash(unit: str, salt: str) -> bytes:
    """The first six bytes of SHA-256 over `["unit","salt"]`. Raises ValueError on text JSON would have to escape."""
    # Without escapes the JSON text is the same in every language.
    text = unit + salt
    if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
        raise ValueError(f"unit and salt: expected printable ASCII without quote and backslash, got {unit!r}, {salt!r}")
    return truncated_json_hash(f'["{unit}","{salt}"]')


def bucket(unit: str, salt: str) -> int:
    """0..9999. The last hash of all, which Nimbus' half-open interval leaves out, belongs to bucket 9999."""
    hashed = int.from_bytes(truncated_hash(unit, salt), "big")
    return min(bisect_right(BOUNDARIES, hashed) - 1, BUCKETS - 1)


def in_range(position: int, span: BucketRange) -> bool:
    """True if `position` lies in the half-open range [first, end)."""
    return span[0] <= position < span[1]


def ramp_ranges(treatment_bp: int) -> tuple[BucketRange, BucketRange]:
    """Arm ranges (treatment, control) of a ramp at `treatment_bp` basis points, 0..10 000.

    The treatment grows from bucket 0 up and an equal-size control from 9999 down; above 5 000 the control is what
    remains. Raising therefore only adds units to the treatment.
    """
    if not 0 <= treatment_bp <= BUCKETS:
        raise ValueError(f"treatment: expected 0 to {BUCKETS} basis points, got {treatment_bp}")
    control = min(treatment_bp, BUCKETS - treatment_bp)
    return (0, treatment_bp), (BUCKETS - control, BUCKETS)
