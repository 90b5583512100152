"""What an experiment engine must hold, by simulation: uniform and independent buckets, honest looks, teeth.

Seeds are fixed, so that a run is like any other. Each check that could pass for being blind is held against something
it must refuse.
"""

from hashlib import sha256
from itertools import combinations
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from experiments.bucketing import BOUNDARIES, BUCKETS, bucket
from experiments.measuring import Cell, Counted, PhaseCounts, evidence_of
from experiments.policy import Action, Measure, Policy, Progress, judge
from experiments.statistics import rare, sequences
from experiments.statistics.estimates import Moments, difference, share_difference
from experiments.statistics.multiplicity import split_alpha

IDS = 200_000
POLICY = Policy()
RUNS, LOOKS, DAILY = 2_000, 28, 500


def uuids(style):
    chance = np.random.default_rng(style)
    if style == 0:
        texts = chance.integers(0, 2**63, (IDS, 2)).tolist()
        return [f"{a:016x}{b:016x}" for a, b in texts]
    return [f"{index}" if style == 1 else f"installation-{index:08d}" for index in range(IDS)]


def buckets(heads, salt):
    """`bucket` for many units at once."""
    tail = f'{salt}"]'.encode()
    digests = b"".join([sha256(head + tail).digest()[:8] for head in heads])
    hashes = np.frombuffer(digests, ">u8").astype(np.uint64) >> np.uint64(16)
    found = np.searchsorted(np.array(BOUNDARIES, np.uint64), hashes, side="right") - 1
    return np.minimum(found, BUCKETS - 1)


def heads_of(units):
    return [f'["{unit}","'.encode() for unit in units]


def test_many_at_once_are_each_the_bucket_of_the_function():
    units = uuids(0)[:3000]
    assert buckets(heads_of(units), "layer:a:1").tolist() == [bucket(unit, "layer:a:1") for unit in units]


def salts_of(experiments):
    """Two for each, as rows make them: the layer's, whose epochs follow each other, and the arms'."""
    layer = "6f1c7f0e-6d0e-4c7c-9a54-1f0b9a3f5d21"
    uuids = [f"{number:08x}-0000-4000-8000-00000000000{number % 10}" for number in range(experiments)]
    return [f"layer:{layer}:{epoch}" for epoch in range(1, experiments + 1)] + [f"arm:{each}:1" for each in uuids]


def uniformity(draws):
    """(least p-value of a chi-square over 100 equal parts, p-value of their spread), of many draws of buckets."""
    p_values = [stats.chisquare(np.bincount(each // 100, minlength=100)).pvalue for each in draws]
    return min(p_values), stats.kstest(p_values, "uniform").pvalue


@pytest.mark.parametrize("style", [0, 1, 2])
def test_buckets_are_uniform_and_their_p_values_too(style):
    """One p-value proves nothing: fifty of them must be as spread as chance spreads them."""
    heads, salts = heads_of(uuids(style)), salts_of(25)
    least, spread = uniformity(buckets(heads, salt) for salt in salts)
    assert len(set(salts)) == 50
    assert least > 1e-5
    assert spread > 0.001


def test_a_hash_of_16_bits_is_refused_by_the_same_test():
    """Modulo 10 000 the buckets below 5 536 come seven times in 65 536, and those above six times."""
    heads = heads_of(uuids(0))
    draws = []
    for salt in salts_of(2):
        tail = f'{salt}"]'.encode()
        hashes = np.frombuffer(b"".join([sha256(head + tail).digest()[:2] for head in heads]), ">u2")
        draws.append(hashes.astype(np.int64) % BUCKETS)
    assert uniformity(draws)[0] < 1e-5


def dependence(first, second):
    """p-value of 10 x 10 cells."""
    table = np.bincount(first * 10 + second, minlength=100).reshape(10, 10)
    return stats.chi2_contingency(table).pvalue


def test_sibling_salts_are_independent():
    """Consecutive epochs, seeds that differ in a character, and the two draws of one experiment."""
    heads = heads_of(uuids(1))
    salts = [f"layer:6f1c:{epoch}" for epoch in range(5)] + [f"arm:6f1c:{seed}" for seed in range(5)]
    tenths = [buckets(heads, salt) // 1000 for salt in salts]
    p_values = [dependence(first, second) for first, second in combinations(tenths, 2)]
    assert min(p_values) * len(p_values) > 0.001
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def code_push(units, label):
    """CodePush's server: a polynomial in 31 over `unit-label`, modulo 100."""
    codes = np.array([list(f"{unit}-{label}".encode()) for unit in units], np.int64)
    hashed = np.zeros(len(codes), np.int64)
    for column in codes.T:
        hashed = (hashed * 31 + column + 2**31) % 2**32 - 2**31
    return np.abs(hashed) % 100


def test_the_same_test_refuses_the_hash_of_code_push():
    units = uuids(2)
    first, second = code_push(units, "v5"), code_push(units, "v6")
    assert dependence(first // 10, second // 10) == 0
    again = np.mean(second[first < 10] < 10)
    assert again > 0.85  # of the tenth that got the last release first; independence would be 0.1


# -- looks


def shares(chance, rate, runs=RUNS, daily=DAILY, looks=LOOKS):
    return chance.binomial(daily, rate, (runs, looks)).cumsum(axis=1)


def normal_moments(chance):
    """Sums and sums of squares of `DAILY` standard normal values a day, exactly distributed."""
    sums = chance.normal(0, sqrt(DAILY), (RUNS, LOOKS))
    squares = chance.chisquare(DAILY - 1, (RUNS, LOOKS)) + sums**2 / DAILY
    return sums.cumsum(axis=1), squares.cumsum(axis=1)


def is_false_alarm(rule, alpha, n, treatment, control):
    """Whether the bound is above no harm at all: stricter than above the margin."""
    if rule.measure is Measure.RATIO:
        counts = rare.Counts(int(treatment), int(control), n, n)
        return rare.evidence_of_more(counts) >= 1 / alpha
    if rule.measure is Measure.LOG_MEAN:
        estimate, events = difference(Moments(n, *treatment), Moments(n, *control)), None
    else:
        estimate = share_difference(Moments.of_share(n, int(treatment)), Moments.of_share(n, int(control)))
        events = int(treatment + control)
    enough = sequences.is_enough((n, n), events)
    return enough and sequences.lower_bound(estimate, alpha, 2 * POLICY.planned_units) > 0


def test_an_aa_is_seldom_stopped_at_any_of_28_looks_and_a_naive_test_would_be():
    chance = np.random.default_rng(20261122)
    rates = {"crash": 0.002, "load_failure": 0.01, "fallback": 0.01, "funnel": 0.05, "slow": 0.05}
    alphas = split_alpha(POLICY.alpha, {rule.name: rule.weight for rule in POLICY.guardrails})
    stopped, by_rule = np.zeros(RUNS, bool), {}
    naive = np.zeros(RUNS, bool)
    for rule in POLICY.guardrails:
        if rule.measure is Measure.LOG_MEAN:
            arms = [np.stack(normal_moments(chance), axis=2) for _ in range(2)]
        else:
            arms = [shares(chance, rates[rule.name]) for _ in range(2)]
        alarms = np.array(
            [
                any(
                    is_false_alarm(rule, alphas[rule.name], DAILY * (look + 1), treatment[look], control[look])
                    for look in range(LOOKS)
                )
                for treatment, control in zip(*arms, strict=True)
            ]
        )
        by_rule[rule.name] = alarms.mean()
        stopped |= alarms
        if rule.name == "funnel":
            n = DAILY * np.arange(1, LOOKS + 1)
            pooled = (arms[0] + arms[1]) / (2 * n)
            z = (arms[0] - arms[1]) / n / np.sqrt(pooled * (1 - pooled) * 2 / n)
            naive = (z > NormalDist().inv_cdf(0.95)).any(axis=1)
    assert stopped.mean() <= 0.05, by_rule
    assert naive.mean() >= 0.15


def crashes(rate_treatment, rate_control, runs, looks):
    """By the whole policy: the share of runs that are rolled back, or halted, within the looks."""
    chance = np.random.default_rng(20261122)
    treatment, control = (shares(chance, rate, runs, 1000, looks) for rate in (rate_treatment, rate_control))
    stopped = 0
    for run in range(runs):
        for look in range(looks):
            units = 1000 * (look + 1)
            cells = {
                ("treatment", "all"): Cell(units, crashed=int(treatment[run, look])),
                ("control", "all"): Cell(units, crashed=int(control[run, look])),
            }
            counted = Counted([PhaseCounts(cells, {"treatment": 0.5, "control": 0.5})], "control", ["treatment"])
            verdict = judge(evidence_of(counted, POLICY), Progress(units=units), POLICY)
            if verdict.action in (Action.ROLLBACK, Action.HALT):
                stopped += 1
                break
    return stopped / runs


def test_a_doubled_crash_rate_of_two_per_mille_is_stopped_by_day_14_in_half_of_the_runs():
    assert crashes(0.004, 0.002, runs=150, looks=14) >= 0.5


def test_an_equal_crash_rate_is_not():
    assert crashes(0.002, 0.002, runs=60, looks=14) <= 0.05


@pytest.mark.parametrize(("dropped", "trips"), [(0.05, True), (0.0, False)])
def test_dropped_downloads_are_a_loss_in_the_funnel_and_no_mismatch(dropped, trips):
    chance = np.random.default_rng(1)
    units = chance.multinomial(10_000, [0.5, 0.5])
    lost = int(chance.binomial(units[0], dropped))
    none = (0,) * 9
    cells = {
        ("treatment", "all"): Cell(int(units[0]), lost=(0, 0, lost, *none[3:])),
        ("control", "all"): Cell(int(units[1])),
    }
    counted = Counted([PhaseCounts(cells, {"treatment": 0.5, "control": 0.5})], "control", ["treatment"])
    evidence = evidence_of(counted, POLICY)
    assert evidence.srm_p_value > 0.001
    assert (judge(evidence, Progress(units=5000), POLICY).action is Action.HOLD) is trips


def test_changed_weights_in_a_new_phase_raise_no_mismatch_and_in_the_same_phase_would():
    before = {("treatment", "all"): Cell(1000), ("control", "all"): Cell(9000)}
    after = {("treatment", "all"): Cell(5000), ("control", "all"): Cell(5000)}
    phases = [
        PhaseCounts(before, {"treatment": 0.1, "control": 0.9}), PhaseCounts(after, {"treatment": 0.5, "control": 0.5})
    ]  # fmt: skip
    assert evidence_of(Counted(phases, "control", ["treatment"]), POLICY).srm_p_value == 1.0
    mixed = {key: before[key] + after[key] for key in before}
    together = Counted([PhaseCounts(mixed, {"treatment": 0.5, "control": 0.5})], "control", ["treatment"])
    assert evidence_of(together, POLICY).srm_factor > POLICY.srm_halt
