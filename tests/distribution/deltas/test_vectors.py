"""sdk_stubs/vectors/patches.json, which every other implementation of the decoder is held to."""

import io
import json
from base64 import b64decode
from pathlib import Path

import pytest

from distribution.deltas import decoder

VECTORS = json.loads((Path(__file__).parents[3] / "sdk_stubs/vectors/patches.json").read_text())
BASE = b64decode(VECTORS["base"])


def apply(case):
    result = io.BytesIO()
    wanted = {"sha256": case["target_sha256"], "length": case["target_length"]}
    decoder.apply_patch(io.BytesIO(b64decode(case["patch"])), io.BytesIO(BASE), result, **wanted)
    return result.getvalue()


@pytest.mark.parametrize("case", VECTORS["applied"], ids=lambda case: case["name"])
def test_applied(case):
    assert apply(case) == b64decode(case["target"])


# Where the result's digest would refuse it too, but only after the work.
EARLY = {
    "less than the result": "bytes in all",
    "half an element": "whole elements",
    "more segments than bytes": "within the limits",
    "copy past the end of the base": "inside the base",
}


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case):
    with pytest.raises(decoder.PatchError, match=EARLY.get(case["name"], ".")):
        apply(case)


def test_the_sdk_s_decoder_is_the_server_s():
    sdk = Path(__file__).parents[3] / "sdk_stubs/python/aerogram_sdk/weightdiff.py"
    assert sdk.read_bytes() == Path(decoder.__file__).read_bytes()
