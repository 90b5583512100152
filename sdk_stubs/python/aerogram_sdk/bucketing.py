"""Which of 10 000 buckets a unit falls into under a salt. Pure.

Mozilla Nimbus' function: the first 48 bits of SHA-256 over the JSON text `["unit","salt"]`, compared with boundaries
that are computed in double precision (application-services: components/nimbus/src/sampling.rs).
"""

from hashlib import sha256
from math import floor

BUCKETS = 10_000

_HASH_BYTES = 6
_LARGEST_HASH = float(2**48 - 1)


def bucket(unit: str, salt: str) -> int:
    """0..9999. Both are of printable ASCII without quote and backslash: their JSON is the same in every language."""
    hashed = int.from_bytes(truncated_hash(unit, salt), "big")
    # The quotient is at most one bucket off; the boundaries decide.
    position = min(hashed * BUCKETS >> 48, BUCKETS - 1)
    while position + 1 < BUCKETS and boundary(position + 1) <= hashed:
        position += 1
    while boundary(position) > hashed:
        position -= 1
    return position


def truncated_hash(unit: str, salt: str) -> bytes:
    """The first six bytes of SHA-256 over the JSON text."""
    return sha256(f'["{unit}","{salt}"]'.encode("ascii")).digest()[:_HASH_BYTES]


def boundary(index: int) -> int:
    """The least hash of a bucket, 0..10 000; of a hundred of them exact integers would give another one."""
    return floor(index / BUCKETS * _LARGEST_HASH)


def in_range(position: int, span: tuple[int, int]) -> bool:
    """Whether `position` lies in the half-open range [first, end)."""
    return span[0] <= position < span[1]
