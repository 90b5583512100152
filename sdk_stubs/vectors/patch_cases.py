"""Cases of weightdiff-1, packed by hand with stored deflate blocks, so that no zlib's habits are in them."""  # noqa: INP001 - a folder of data with its scripts, no package

import hashlib
from base64 import b64encode
from typing import Any

from distribution.deltas.decoder import FIRST_GAPS, FIRST_PLANE, MAGIC, STREAMS, Header

ADD, COPY, DIFF1, DIFF2, DIFF4 = range(5)
CONTROL, LITERALS = 0, 1
BASE = bytes(range(200)) + (2**31 - 1).to_bytes(4, "little") + (2**15).to_bytes(2, "little") + bytes(10)


def patches() -> dict[str, Any]:
    base64 = b64encode(BASE).decode()
    return {"algorithm": "weightdiff-1", "base": base64, "applied": _applied(), "refused": _refused()}


def _applied() -> list[dict[str, Any]]:
    return [
        _case("empty target", b"", {}, 0),
        _case("literal", b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"new"}, 1),
        _case("copy, forwards and back", BASE[50:60] + BASE[5:9], {CONTROL: bytes((COPY, 10, 100, COPY, 4, 109))}, 2),
        # zig-zag: 1 is minus one, 2 is plus one
        _case("bytes that wrap", bytes((255, 2)), {CONTROL: bytes((DIFF1, 2, 0)), FIRST_PLANE: bytes((1, 2))}, 1),
        _case(
            "two bytes an element",
            (2**15 - 1).to_bytes(2, "little"),
            {CONTROL: bytes((DIFF2, 2, 0x98, 0x03)), FIRST_PLANE + 1: b"\1", FIRST_PLANE + 2: b"\0"},
            1,
        ),
        _case(
            "four bytes an element, over the sign",
            (2**31 + 255).to_bytes(4, "little"),
            {CONTROL: bytes((DIFF4, 4, 0x90, 0x03))}
            | {FIRST_PLANE + 3 + index: bytes((byte,)) for index, byte in enumerate((0, 2, 0, 0))},
            1,
        ),
        _case(
            "a plane in gaps",
            bytes(value + (value in (3, 199)) for value in range(200)),
            {CONTROL: bytes((DIFF1, 0xC8, 0x01, 0)), FIRST_PLANE: bytes((2, 2)), FIRST_GAPS: bytes((3, 195))},
            1,
        ),
        _case(
            "a gap of 255 has no value, and a plane may end in zeros",
            BASE[:200] + BASE[:55] + b"\x38" + BASE[56:200],
            {
                CONTROL: bytes((DIFF1, 0xC8, 0x01, 0, DIFF1, 0xC8, 0x01, 0x8F, 0x03)),
                FIRST_PLANE: bytes((2, 0)),
                FIRST_GAPS: bytes((255, 0, 143)),
            },
            2,
        ),
    ]


def _refused() -> list[dict[str, Any]]:
    copy = {CONTROL: bytes((COPY, 200, 0))}
    whole = _patch(BASE[:3], {CONTROL: bytes((COPY, 3, 0))}, 1)
    cases = {
        "no magic": b"AGWD\2" + whole[5:],
        "truncated": whole[:-1],
        "bytes after the end": whole + b"\0",
        "another base": _patch(b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"new"}, 1, base=b"another"),
        "another target than wanted": _patch(b"old", {CONTROL: bytes((ADD, 3)), LITERALS: b"old"}, 1),
        "result of another digest": _patch(b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"old"}, 1),
        "copy past the end of the base": _patch(b"new", {CONTROL: bytes((COPY, 3, 0xAC, 0x03))}, 1),
        "copy from before the base": _patch(b"new", {CONTROL: bytes((COPY, 3, 1))}, 1),
        "more than the result": _patch(b"new", copy, 1),
        "less than the result": _patch(b"new", {CONTROL: bytes((ADD, 2)), LITERALS: b"ne"}, 1),
        "half an element": _patch(b"new", {CONTROL: bytes((DIFF2, 3, 0)), 3: b"\0", 4: b"\0"}, 1),
        "unknown operation": _patch(b"new", {CONTROL: bytes((5, 3, 0))}, 1),
        "empty segment": _patch(b"new", {CONTROL: bytes((ADD, 0, ADD, 3)), LITERALS: b"new"}, 2),
        "number of six bytes": _patch(b"new", {CONTROL: bytes((ADD, 0x83, 0x80, 0x80, 0x80, 0x80, 0)), 1: b"new"}, 1),
        "literals left over": _patch(b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"newer"}, 1),
        "control left over": _patch(b"new", {CONTROL: bytes((ADD, 3, ADD)), LITERALS: b"new"}, 1),
        "a plane nobody reads": _patch(b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"new", FIRST_PLANE: b"x"}, 1),
        "gaps that make too many zeros": _patch(
            BASE[:3], {CONTROL: bytes((DIFF1, 3, 0)), FIRST_PLANE: b"\0", FIRST_GAPS: bytes((200,))}, 1
        ),
        "more segments than bytes": _patch(b"new", {CONTROL: bytes((ADD, 3)), LITERALS: b"new"}, 4),
    }
    wanted = {"truncated": BASE[:3], "no magic": BASE[:3], "bytes after the end": BASE[:3]}
    wanted["gaps that make too many zeros"] = BASE[:3]
    return [_written(name, patch, wanted.get(name, b"new")) for name, patch in cases.items()]


def _case(name: str, target: bytes, streams: dict[int, bytes], segments: int) -> dict[str, Any]:
    return _written(name, _patch(target, streams, segments), target) | {"target": b64encode(target).decode()}


def _written(name: str, patch: bytes, target: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(target).hexdigest()
    return {"name": name, "patch": b64encode(patch).decode(), "target_sha256": digest, "target_length": len(target)}


def _patch(target: bytes, streams: dict[int, bytes], segments: int, base: bytes = BASE) -> bytes:
    packed = [stored(streams[index]) if index in streams else b"" for index in range(STREAMS)]
    digests = (hashlib.sha256(content).digest() for content in (base, target))
    header = Header(*digests, len(base), len(target), segments, tuple(map(len, packed)))
    assert header.pack().startswith(MAGIC)
    return b"".join((header.pack(), *packed))


def stored(content: bytes) -> bytes:
    """RFC 1951 section 3.2.4: one block of at most 65 535 bytes, not compressed."""
    length = len(content)
    return b"\1" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + content
