from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.bucketing import BUCKETS
from experiments.ramps import Share, arm_at, equal_shares, home_ranges, moved, ranges_at, require_arms, size

ROLLOUT = [Share("control", 5000, control=True), Share("treatment", 5000)]
percentages = st.integers(0, BUCKETS)


@st.composite
def arms(draw):
    count = draw(st.integers(2, 6))
    cuts = draw(st.lists(st.integers(1, BUCKETS - 1), min_size=count - 1, max_size=count - 1, unique=True))
    edges = [0, *sorted(cuts), BUCKETS]
    return [Share(f"a{index}", end - first, index == 0) for index, (first, end) in enumerate(pairwise(edges))]


def equal_arms(count):
    names = [f"a{index}" for index in range(count)]
    return [Share(name, bp, name == "a0") for name, bp in zip(names, equal_shares(names), strict=True)]


@st.composite
def few_buckets(draw):
    """Neighbouring ranges of up to three arms among the first 40 buckets, some with a gap between them."""
    edges = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=6)))
    owners = draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=len(edges) - 1, max_size=len(edges) - 1))
    spans = list(zip(owners, pairwise(edges), strict=True))
    return {name: [span for owner, span in spans if owner == name] for name in "abc"}


@pytest.mark.parametrize(
    ("percent_bp", "treatment", "control"),
    [
        (0, (), ()),
        (1, ((0, 1),), ((9999, 10_000),)),
        (2500, ((0, 2500),), ((7500, 10_000),)),
        (5000, ((0, 5000),), ((5000, 10_000),)),
        (7500, ((0, 7500),), ((7500, 10_000),)),
        (10_000, ((0, 10_000),), ()),
    ],
)
def test_a_rollout_has_an_equal_control_and_later_what_remains(percent_bp, treatment, control):
    assert ranges_at("rollout", ROLLOUT, percent_bp) == {"treatment": treatment, "control": control}


@given(percentages, percentages)
def test_a_raised_rollout_takes_units_from_outside_or_from_the_control_above_half(first, second):
    lower, upper = sorted((first, second))
    before, after = ranges_at("rollout", ROLLOUT, lower), ranges_at("rollout", ROLLOUT, upper)
    for position in range(0, BUCKETS, 7):
        was, is_now = arm_at(before, position), arm_at(after, position)
        assert was is None or was == is_now or (was == "control" and upper > 5000)


@given(arms(), percentages, percentages)
def test_raising_several_arms_moves_no_unit_from_one_to_another(shares, first, second):
    lower, upper = sorted((first, second))
    before, after = ranges_at("ab", shares, lower), ranges_at("ab", shares, upper)
    for position in range(0, BUCKETS, 13):
        was = arm_at(before, position)
        assert was is None or was == arm_at(after, position)


@given(arms(), percentages)
def test_arms_are_disjoint_and_each_stays_in_its_home(shares, percent_bp):
    homes, ranges = home_ranges(shares), ranges_at("ab", shares, percent_bp)
    for name, spans in ranges.items():
        for first, end in spans:
            assert homes[name][0] == first < end <= homes[name][1]
    assert sum(map(size, ranges.values())) <= percent_bp
    assert min(homes.values())[0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(sorted(homes.values())))


@given(arms())
def test_nobody_is_in_at_0_and_everybody_at_100_percent(shares):
    assert ranges_at("ab", shares, 0) == {arm.name: () for arm in shares}
    assert sum(map(size, ranges_at("ab", shares, BUCKETS).values())) == BUCKETS


@given(st.integers(2, 20))
def test_equal_shares_differ_by_one_at_most(count):
    shares = equal_shares([f"a{index}" for index in range(count)])
    assert sum(shares) == BUCKETS
    assert max(shares) - min(shares) <= 1


@given(arms(), percentages, percentages)
def test_moved_counts_what_enters_and_leaves(shares, first, second):
    before, after = ranges_at("ab", shares, first), ranges_at("ab", shares, second)
    grown = abs(sum(map(size, before.values())) - sum(map(size, after.values())))
    assert moved(before, after) == grown
    assert moved(before, before) == 0


def test_moved_sees_a_unit_that_changes_its_arm():
    assert moved({"a": [[0, 10]], "b": [[10, 20]]}, {"a": [[0, 15]], "b": [[15, 20]]}) == 5


@given(few_buckets(), few_buckets())
def test_moved_counts_what_going_through_all_buckets_counts(before, after):
    assert moved(before, after) == sum(arm_at(before, each) != arm_at(after, each) for each in range(41))


@pytest.mark.parametrize(
    ("kind", "shares", "told"),
    [
        ("ab", [Share("a", 10_000, True)], "expected 2 to 20, got 1"),
        ("ab", equal_arms(21), "expected 2 to 20, got 21"),
        ("ab", [Share("a", 5000, True), Share("a", 5000)], "expected unique names"),
        ("ab", [Share("a", 5000), Share("b", 5000)], "expected one control, got 0"),
        ("ab", [Share("a", 5000, True), Share("b", 4999)], "add up to 10000, got 9999"),
        ("ab", [Share("a", 10_000, True), Share("b", 0)], "expected positive ones"),
        ("rollout", [*ROLLOUT, Share("c", 0)], "expected a treatment and a control"),
    ],
)
def test_arms_that_do_not_fit_are_refused(kind, shares, told):
    with pytest.raises(ValueError, match=told):
        require_arms(kind, shares)
    with pytest.raises(ValueError, match=told):
        ranges_at(kind, shares, 100)


def test_twenty_arms_fit_and_a_rollout_asks_for_no_shares():
    require_arms("ab", equal_arms(20))
    require_arms("rollout", [Share("control", 0, control=True), Share("treatment", 0)])


@pytest.mark.parametrize("percent_bp", [-1, BUCKETS + 1])
@pytest.mark.parametrize("kind", ["rollout", "ab"])
def test_a_percentage_beyond_all_buckets_is_refused(kind, percent_bp):
    with pytest.raises(ValueError, match="percentage: expected 0 to 10000"):
        ranges_at(kind, ROLLOUT, percent_bp)
