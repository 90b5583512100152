import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments import bucketing
from experiments.bucketing import (
    BOUNDARIES,
    BUCKETS,
    bucket,
    in_range,
    ramp_ranges,
    truncated_hash,
    truncated_json_hash,
)

VECTORS = json.loads((Path(__file__).parents[2] / "sdk_stubs/vectors/buckets.json").read_text())
NIMBUS_SALT = "bug-1637316-message-aboutwelcome-pull-factor-reinforcement-76-rel-release-76-77"
plain_text = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=60)


# The published cases stand in mozilla/application-services, components/nimbus/src/tests/test_sampling.rs (MPL-2.0).
@pytest.mark.parametrize(
    ("json_text", "hexadecimal"),
    [
        ('[1234,"test_namespace"]', "2a6e18a86edc"),
        ("null", "74234e98afe7"),
        ('""', "12ae32cb1ec0"),
        ('{"id":1234,"namespace":"experiment"}', "5d1effd4b032"),
    ],
)
def test_the_hash_is_the_one_nimbus_publishes(json_text, hexadecimal):
    assert truncated_json_hash(json_text).hex() == hexadecimal


@pytest.mark.parametrize(
    ("unit", "span", "inside"),
    [
        ("299eed1e-be6d-457d-9e53-da7b1a03f10d", (0, 2000), True),
        ("299eed1e-be6d-457d-9e53-da7b1a03f10d", (2000, 3000), False),
        ("c590d3f5-fe9d-4820-97c9-f403535dd306", (0, 2000), False),
        ("c590d3f5-fe9d-4820-97c9-f403535dd306", (2000, 3000), True),
    ],
)
def test_the_buckets_are_the_ones_nimbus_publishes(unit, span, inside):
    assert in_range(bucket(unit, NIMBUS_SALT), span) is inside


@pytest.mark.parametrize(
    ("unit", "branch"),
    [("299eed1e-be6d-457d-9e53-da7b1a03f10d", 1), ("542213c0-9aef-47eb-bc6b-3b8529736ba2", 0)],
)
def test_two_equal_branches_are_those_nimbus_publishes(unit, branch):
    """`ratio_sample` of application-services, components/nimbus/src/tests/test_sampling.rs, which hashes a string."""
    hashed = truncated_json_hash(json.dumps(f"experiment-manager-{unit}-TEST_EXP1-branch"))
    assert int(int.from_bytes(hashed, "big") > BOUNDARIES[BUCKETS // 2]) == branch


def test_vectors():
    for case in VECTORS["cases"]:
        assert truncated_hash(case["unit"], case["salt"]).hex() == case["hash"]
        assert bucket(case["unit"], case["salt"]) == case["bucket"]
    for case in VECTORS["boundaries"]:
        assert BOUNDARIES[case["index"]] == case["value"]
    for case in VECTORS["ranges"]:
        assert in_range(case["bucket"], tuple(case["range"])) is case["inside"]


@given(plain_text, plain_text)
def test_a_bucket_is_stable_and_within_bounds(unit, salt):
    assert 0 <= bucket(unit, salt) < BUCKETS
    assert bucket(unit, salt) == bucket(unit, salt)


@given(plain_text, plain_text)
def test_the_framing_is_json(unit, salt):
    assert truncated_hash(unit, salt) == truncated_json_hash(json.dumps([unit, salt], separators=(",", ":")))


@pytest.mark.parametrize("text", ['a"b', "a\\b", "ä", "a\nb", "\x7f"])
def test_text_that_json_would_escape_is_refused(text):
    with pytest.raises(ValueError, match="expected printable ASCII"):
        bucket(text, "salt")
    with pytest.raises(ValueError, match="expected printable ASCII"):
        bucket("unit", text)


def test_buckets_are_uniform():
    counts = [0] * 100
    for index in range(50_000):
        counts[bucket(f"unit-{index}", "layer:uniform:1") // 100] += 1
    assert stats.chisquare(counts).pvalue > 0.001


def test_sibling_salts_are_independent():
    table = [[0] * 10 for _ in range(10)]
    for index in range(20_000):
        table[bucket(f"u{index}", "layer:a:1") // 1000][bucket(f"u{index}", "layer:a:2") // 1000] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


@given(st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_raising_a_ramp_only_adds_units_to_the_treatment(first, second):
    lower, upper = sorted((first, second))
    small, large = ramp_ranges(lower)[0], ramp_ranges(upper)[0]
    assert large[0] <= small[0] <= small[1] <= large[1]


@given(st.integers(0, BUCKETS))
def test_a_ramp_has_an_equal_control_or_what_remains(treatment_bp):
    treatment, control = ramp_ranges(treatment_bp)
    assert treatment == (0, treatment_bp)
    assert treatment[1] <= control[0]
    assert control[1] == BUCKETS
    assert control[1] - control[0] == min(treatment_bp, BUCKETS - treatment_bp)


@pytest.mark.parametrize("treatment_bp", [-1, BUCKETS + 1])
def test_a_ramp_beyond_all_buckets_is_refused(treatment_bp):
    with pytest.raises(ValueError, match="expected 0 to 10000"):
        ramp_ranges(treatment_bp)


def test_the_last_hash_of_all_belongs_to_the_last_bucket(monkeypatch):
    monkeypatch.setattr(bucketing, "truncated_json_hash", lambda _text: b"\xff" * 6)
    assert bucket("unit", "salt") == BUCKETS - 1
