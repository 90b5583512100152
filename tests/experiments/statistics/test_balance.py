"""Sample ratio mismatch: worked numbers, scipy, and A/A runs with 28 looks."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics.balance import HALTING_FACTOR, balance, bayes_factor, drill_down

RNG = np.random.default_rng(20261122)


def test_worked_numbers():
    """savvi's odds for 5 200 to 4 800 are 274.133; 5 000 to 5 250 has p 0.0135 (statistic 6.098)."""
    assert balance([5_200, 4_800], [1, 1]).factor == pytest.approx(274.133, abs=5e-4)
    assert round(balance([5_000, 5_250], [1, 1]).p_value, 4) == 0.0135


@pytest.mark.parametrize(("counts", "shares"), [((10, 12, 30), (1, 1, 2)), ((900, 1100), (0.5, 0.5))])
def test_chi_square_is_that_of_scipy(counts, shares):
    expected = np.array(shares) / sum(shares) * sum(counts)
    assert balance(counts, shares).p_value == pytest.approx(stats.chisquare(counts, expected).pvalue)


def test_the_factor_is_the_ratio_of_the_dirichlet_multinomial_to_the_multinomial():
    counts, shares = (40, 61, 99), np.array([0.2, 0.3, 0.5])
    prior = stats.dirichlet_multinomial(100 * shares, sum(counts)).pmf(counts)
    assert bayes_factor(counts, shares) == pytest.approx(prior / stats.multinomial(sum(counts), shares).pmf(counts))


def test_no_units_are_no_mismatch():
    assert (balance([0, 0], [1, 1]).p_value, balance([0, 0], [1, 1]).factor) == (1.0, 1.0)
    assert balance([10**9, 0], [1, 1]).factor > 1e300


@pytest.mark.parametrize(("counts", "shares"), [((1,), (1, 1)), ((1, 2), (1, 0)), ((-1, 2), (1, 1)), ((), ())])
def test_what_cannot_be_compared_is_refused(counts, shares):
    with pytest.raises(ValueError, match="expected a positive share for each count"):
        balance(counts, shares)


def test_the_first_units_of_a_small_arm_are_no_mismatch():
    """One run in twenty begins with a unit of the arm of 5 %; Pearson's statistic would make that one in 76 000."""
    assert balance([0, 1], [0.95, 0.05]).p_value == 1.0
    assert balance([80, 19], [0.95, 0.05]).p_value == 1.0
    assert balance([80, 20], [0.95, 0.05]).p_value < 1e-6
    assert balance([60, 30], [0.95, 0.05]).factor > 1000, "what is out of all proportion halts before that"
    firsts = (RNG.random((300, 300)) < 0.05).cumsum(axis=1)
    warned = [
        any(balance([n - int(k), int(k)], [0.95, 0.05]).p_value < 0.001 for n, k in enumerate(run, 1)) for run in firsts
    ]
    assert sum(warned) / len(warned) <= 0.03


def looks(share, runs=2_000):
    treatment = RNG.binomial(2_000, share, (runs, 28)).cumsum(axis=1)
    totals = 2_000 * np.arange(1, 29)
    return [[balance([int(t), int(n - t)], [1, 1]) for t, n in zip(run, totals, strict=True)] for run in treatment]


def test_28_looks_at_an_aa_seldom_warn_and_never_halt():
    runs = looks(0.5)
    halted = sum(max(look.factor for look in run) > HALTING_FACTOR for run in runs)
    warned = sum(min(look.p_value for look in run) < 0.001 for run in runs)
    naive = sum(min(look.p_value for look in run) < 0.05 for run in runs)
    assert halted / len(runs) <= 0.001
    assert warned / len(runs) <= 0.02
    assert naive / len(runs) >= 0.2


def test_a_split_of_49_to_51_is_mostly_caught():
    runs = looks(0.49, runs=300)
    assert sum(min(look.p_value for look in run) < 0.001 for run in runs) / len(runs) >= 0.85
    assert sum(max(look.factor for look in run) > HALTING_FACTOR for run in runs) / len(runs) >= 0.5


def test_the_drill_down_names_the_group_that_is_out_of_balance():
    groups = {"15": (500, 510), "14": (300, 480), "13": (0, 0), "12": (40, 45)}
    assert [name for name, _ in drill_down(groups, [1, 1])] == ["14"]


def test_the_drill_down_asks_more_of_one_among_many_groups_that_have_units():
    skewed = {"14": (553, 447)}
    assert drill_down(skewed, [1, 1])[0][1].p_value == pytest.approx(stats.chisquare([553, 447]).pvalue)
    assert drill_down(skewed | {"13": (0, 0)}, [1, 1])
    assert not drill_down(skewed | {"13": (500, 500)}, [1, 1])


def test_the_drill_down_tells_the_worst_first_and_equals_by_name():
    groups = {"b": (600, 400), "a": (600, 400), "c": (700, 300)}
    assert [name for name, _ in drill_down(groups, [1, 1])] == ["c", "a", "b"]


def test_counts_are_told_beside_the_parts_that_were_planned():
    found = balance([60, 20], [3, 1])
    assert (found.counts, found.shares, found.p_value) == ((60, 20), (0.75, 0.25), 1.0)


def test_a_single_arm_cannot_be_out_of_balance():
    found = balance([1_000], [1])
    assert (found.p_value, found.factor) == (1.0, 1.0)
