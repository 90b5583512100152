"""Treatment minus control for shares and means, with fixed-horizon intervals. Pure.

Units are devices. A share is of 0..1; a standard error has the unit of its estimate. The intervals here hold for one
look that was planned beforehand; whoever looks daily takes `sequences`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist

from scipy import special

_NORMAL = NormalDist()
LEAST_FOR_VARIANCE = 2
# Of both arms: theta is estimated, which with fewer pairs makes intervals too narrow to see.
LEAST_PAIRS = 100


@dataclass(frozen=True, slots=True)
class Moments:
    """What the rollups keep of a value per unit: how many units, their sum and their sum of squares."""

    n: int
    total: float
    squares: float

    @classmethod
    def of_share(cls, n: int, events: int) -> Moments:
        """`events` of `n` units had it. Raises ValueError unless 0 <= events <= n."""
        if not 0 <= events <= n:
            raise ValueError(f"events: expected 0 to {n}, got {events}")
        return cls(n, events, events)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, part: Moments) -> Moments:
        """Of the units that are not in `part`."""
        return Moments(self.n - part.n, self.total - part.total, self.squares - part.squares)

    @property
    def mean(self) -> float:
        """0 without units."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Of one unit, unbiased; 0 below two units."""
        if self.n < LEAST_FOR_VARIANCE:
            return 0.0
        return max(0.0, self.squares - self.total * self.total / self.n) / (self.n - 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference, its standard error and the number of units of both arms that it rests on."""

    value: float
    standard_error: float
    n: int


@dataclass(frozen=True, slots=True)
class Interval:
    """`p_value` is two-sided, for the null that there is no difference."""

    value: float
    lower: float
    upper: float
    p_value: float


def difference(treatment: Moments, control: Moments) -> Estimate:
    """Treatment minus control of means or shares; an arm of less than two units leaves an infinite standard error."""
    value = treatment.mean - control.mean
    n = treatment.n + control.n
    if min(treatment.n, control.n) < LEAST_FOR_VARIANCE:
        return Estimate(value, inf, n)
    return Estimate(value, sqrt(treatment.variance / treatment.n + control.variance / control.n), n)


def share_difference(treatment: Moments, control: Moments) -> Estimate:
    """Treatment minus control of two shares, its error from shares drawn towards a half.

    Agresti and Caffo, American Statistician 54 (2000) 280: one event and one other are added to each arm, so that an
    arm in which all units failed, or none, has an error too.
    """
    plain = difference(treatment, control)
    if not treatment.n or not control.n:
        return plain
    spread = 0.0
    for arm in (treatment, control):
        share = (arm.total + 1) / (arm.n + 2)
        spread += share * (1 - share) / (arm.n + 2)
    return Estimate(plain.value, sqrt(spread), plain.n)


def relative_difference(treatment: Moments, control: Moments) -> Estimate:
    """(treatment - control) / control by the delta method; infinite standard error where control's mean is 0.

    Formula: Casella and Berger, Statistical Inference, 5.5.4, for a ratio of independent means.
    """
    n = treatment.n + control.n
    if not treatment.n or not control.n or control.mean == 0:
        return Estimate(0.0, inf, n)
    ratio = treatment.mean / control.mean
    spread = treatment.variance / treatment.n + ratio**2 * control.variance / control.n
    return Estimate(ratio - 1, sqrt(spread) / abs(control.mean), n)


def wilson(n: int, events: int, alpha: float) -> tuple[float, float]:
    """Two-sided interval of one share. Wilson, J. Am. Stat. Assoc. 22 (1927) 209."""
    if not n:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf(1 - alpha / 2)
    share = events / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def newcombe(treatment: Moments, control: Moments, alpha: float = 0.05) -> Interval:
    """Difference of two shares. Newcombe, Statistics in Medicine 17 (1998) 873, method 10; p by the pooled z-test."""
    (low_t, high_t), (low_c, high_c) = (wilson(arm.n, round(arm.total), alpha) for arm in (treatment, control))
    share_t, share_c = treatment.mean, control.mean
    value = share_t - share_c
    lower = value - sqrt((share_t - low_t) ** 2 + (high_c - share_c) ** 2)
    upper = value + sqrt((high_t - share_t) ** 2 + (share_c - low_c) ** 2)
    return Interval(value, lower, upper, _pooled_p_value(treatment, control))


def _pooled_p_value(treatment: Moments, control: Moments) -> float:
    pooled = treatment + control
    spread = pooled.mean * (1 - pooled.mean)
    if not treatment.n or not control.n or spread == 0:
        return 1.0
    z = (treatment.mean - control.mean) / sqrt(spread * (1 / treatment.n + 1 / control.n))
    return 2 * _NORMAL.cdf(-abs(z))


def welch(treatment: Moments, control: Moments, alpha: float = 0.05) -> Interval:
    """Difference of two means with unequal variances. Welch, Biometrika 34 (1947) 28, with Satterthwaite's freedom."""
    estimate = difference(treatment, control)
    if estimate.standard_error in (0.0, inf):
        flat = estimate.standard_error == 0
        return Interval(
            estimate.value,
            estimate.value if flat else -inf,
            estimate.value if flat else inf,
            0.0 if flat and estimate.value else 1.0,
        )
    freedom = _satterthwaite(treatment, control)
    t = estimate.value / estimate.standard_error
    half = float(special.stdtrit(freedom, 1 - alpha / 2)) * estimate.standard_error
    p_value = 2 * float(special.stdtr(freedom, -abs(t)))
    return Interval(estimate.value, estimate.value - half, estimate.value + half, p_value)


def _satterthwaite(treatment: Moments, control: Moments) -> float:
    spreads = [(arm.variance / arm.n, arm.n) for arm in (treatment, control)]
    whole = sum(each for each, _ in spreads)
    # Parts of the whole: squares of tiny variances would be 0.
    return 1 / sum((each / whole) ** 2 / max(1, n - 1) for each, n in spreads)


@dataclass(frozen=True, slots=True)
class PairedMoments:
    """A value `y` of the phase and the same device's value `x` from before the phase, summed over an arm's units."""

    y: Moments
    x: Moments
    products: float

    def __add__(self, other: PairedMoments) -> PairedMoments:
        return PairedMoments(self.y + other.y, self.x + other.x, self.products + other.products)

    @property
    def covariance(self) -> float:
        n = self.y.n
        if n < LEAST_FOR_VARIANCE:
            return 0.0
        return (self.products - self.y.total * self.x.total / n) / (n - 1)


def cuped(treatment: PairedMoments, control: PairedMoments) -> tuple[Moments, Moments]:
    """Both arms' moments of y - theta * (x - mean x), theta from both arms together.

    Deng, Xu, Kohavi, Walker, WSDM 2013. The mean of x is that of both arms, which leaves the difference
    of the arms unbiased since x was measured before the split.
    """
    both = treatment + control
    if both.x.n != both.y.n:
        raise ValueError(f"pairs: expected as many x as y, got {both.x.n} and {both.y.n}")
    if not both.x.variance:
        return treatment.y, control.y
    theta = both.covariance / both.x.variance
    return _adjusted(treatment, theta, both.x.mean), _adjusted(control, theta, both.x.mean)


def cuped_where_known(
    treatment: Moments, control: Moments, paired_treatment: PairedMoments, paired_control: PairedMoments
) -> tuple[Moments, Moments]:
    """`cuped` for arms in which only some units have a value from before; the others count as they are.

    The adjustment is about the mean over those that have one, in both arms together, and who has one was settled before
    the split: so it is 0 on average in either arm. Below LEAST_PAIRS nothing is adjusted.
    """
    if paired_treatment.y.n + paired_control.y.n < LEAST_PAIRS:
        return treatment, control
    adjusted = cuped(paired_treatment, paired_control)
    return treatment - paired_treatment.y + adjusted[0], control - paired_control.y + adjusted[1]


def _adjusted(arm: PairedMoments, theta: float, centre: float) -> Moments:
    """Moments of z = y - theta * (x - centre)."""
    n = arm.y.n
    shift = theta * centre
    total = arm.y.total - theta * arm.x.total + n * shift
    squares = (
        arm.y.squares
        + theta**2 * arm.x.squares
        + n * shift**2
        - 2 * theta * arm.products
        + 2 * shift * arm.y.total
        - 2 * shift * theta * arm.x.total
    )
    return Moments(n, total, squares)
