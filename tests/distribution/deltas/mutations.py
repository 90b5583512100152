"""Patches as an attacker or a bad disk would change them.

`python -m tests.distribution.deltas.mutations 10000` runs the full campaign and prints what became of them.
"""

import random
import resource
import sys
import zlib
from collections import Counter
from functools import cache

import numpy as np

from distribution.deltas import decoder
from distribution.deltas.encoder import make_patch, varint
from tests.distribution.deltas.applying import applied

HEADER = decoder.HEADER
BOMB_BYTES, BOMB_SIZES = (0, 1, 2, 255), (10**4, 10**7)
LENGTHS_AT = 8 + 64  # base, target, segments and the stream lengths: 32 bits each


def example(seed=5):
    """A base, a target and a patch that uses every operation, planes of each width and gaps."""
    rng = np.random.default_rng(seed)
    shared = rng.bytes(3_000)
    wide = rng.integers(0, 2**32, 4_000, dtype=np.uint32)
    half = rng.integers(0, 2**16, 4_000, dtype=np.uint16)
    small = rng.integers(0, 256, 30_000, dtype=np.uint8)
    base = b"".join((shared, wide.tobytes(), half.tobytes(), small.tobytes()))
    small = small.copy()
    small[::97] += 1
    wide, half = wide + rng.integers(0, 900, 4_000, dtype=np.uint32), half + rng.integers(0, 9, 4_000, dtype=np.uint16)
    changed = (rng.bytes(2_000), shared, wide.tobytes(), half.tobytes(), small.tobytes())
    return base, b"".join(changed), None


def stored_example():
    """The same, its segments chosen by hand, so that the patch has every kind whatever the encoder prefers."""
    from distribution.deltas.encoder import Segment, _Streams

    base, target, _ = example()
    plan = [(0, 2_000, 0), (1, 3_000, 0), (4, 16_000, 3_000), (3, 8_000, 19_000), (2, 30_000, 27_000)]
    segments, place = [], 0
    for operation, length, origin in plan:
        segments.append(Segment(operation, place, length, origin))
        place += length
    streams = _Streams.of(base, target, segments).deflated()
    return base, target, packed(header_of(make_patch(base, target)), streams, len(segments))


def header_of(patch):
    return patch[: HEADER.size]


def packed(header, streams, segments):
    lengths = b"".join(len(stream).to_bytes(4, "little") for stream in streams)
    kept = header[: LENGTHS_AT + 8]
    return b"".join((kept, segments.to_bytes(4, "little"), lengths, *streams))


def streams_of(patch):
    """(segments, the streams as deflated)."""
    *_, segments = HEADER.unpack(patch[: HEADER.size])[:6]
    streams, place = [], HEADER.size
    for length in HEADER.unpack(patch[: HEADER.size])[6:]:
        streams.append(patch[place : place + length])
        place += length
    return segments, streams


def deflated(content):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(content) + deflater.flush()


def mutated(patch, rng):
    return rng.choice((_flipped, _cut, _longer, _renumbered, _restreamed, _bombed, _swapped))(patch, rng)


def _flipped(patch, rng):
    changed = bytearray(patch)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(patch, rng):
    return patch[: rng.randrange(len(patch))]


def _longer(patch, rng):
    return patch + rng.randbytes(rng.randint(1, 200))


def _renumbered(patch, rng):
    """Another length or count in the header."""
    place = LENGTHS_AT + 4 * rng.randrange(3 + decoder.STREAMS)
    value = rng.choice((0, 1, 255, 2**18, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)))
    return patch[:place] + value.to_bytes(4, "little") + patch[place + 4 :]


def _restreamed(patch, rng):
    """Bytes of a stream changed before it is deflated: what lies under the compression is wrong."""
    segments, streams = streams_of(patch)
    index = rng.choice([number for number, stream in enumerate(streams) if stream])
    content = bytearray(zlib.decompress(streams[index], -15))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content))
        change = rng.randrange(4)
        if change == 0:
            content[place] = rng.randrange(256)
        elif change == 1:
            del content[place : place + rng.randint(1, 20)]
        elif change == 2:
            content[place:place] = rng.randbytes(rng.randint(1, 20))
        else:
            content[place:place] = varint(rng.choice((0, 2**31 - 1, 2**32, 2**35 - 1)))
        if not content:
            break
    streams[index] = deflated(bytes(content))
    return packed(header_of(patch), streams, max(0, segments + rng.choice((0, 0, 1, -1, 1000))))


def _bombed(patch, rng):
    """A stream that inflates a thousandfold."""
    segments, streams = streams_of(patch)
    streams[rng.randrange(len(streams))] = _bomb(rng.choice(BOMB_BYTES), rng.choice(BOMB_SIZES))
    return packed(header_of(patch), streams, rng.choice((segments, 2**18)))


@cache
def _bomb(byte, count):
    return deflated(bytes([byte]) * count)


def keep_bombs():
    for byte in BOMB_BYTES:
        for size in BOMB_SIZES:
            _bomb(byte, size)


def _swapped(patch, rng):
    segments, streams = streams_of(patch)
    first, second = rng.sample(range(len(streams)), 2)
    streams[first], streams[second] = streams[second], streams[first]
    return packed(header_of(patch), streams, segments)


def campaign(count, seed=1):
    """What became of `count` mutated patches: the names of refusals, or `applied` for one that still does its work."""
    base, target, patch = stored_example()
    rng, outcomes = random.Random(seed), Counter()
    for _ in range(count):
        changed = mutated(patch, rng)
        try:
            made = applied(changed, base, target, decoder.apply_patch)
        except decoder.PatchError as refusal:
            outcomes[type(refusal).__name__] += 1
        else:
            assert made == target
            outcomes["applied"] += 1
    return outcomes


if __name__ == "__main__":
    for name, number in campaign(int(sys.argv[1])).most_common():
        print(f"{number:7} {name}")  # noqa: T201
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:7} MiB at most")  # noqa: T201
