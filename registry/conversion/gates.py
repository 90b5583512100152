"""What a variant must keep to before it may be released, and where it does not. Pure.

A model's gates, as JSON, each member optional:

    {"max_accuracy_loss": "0.02",             share of the source's accuracy, as decimal text
     "max_bytes": 4000000,                    bytes of the model files a device stores
     "max_latency_us": {device class: 8000},  median of one inference on a device of the class
     "required_recipes": [recipe, …]}         a release without one of these is refused as a whole

What a gate asks for and nobody has measured is missed: gates fail closed. And a variant whose outputs were never
compared with its source's misses, whatever the gates say.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from registry.conversion.recipes import RECIPES

MEMBERS = ("max_accuracy_loss", "max_bytes", "max_latency_us", "required_recipes")
MOST_CLASSES = 1000
LARGEST = 2**53


class GatesError(ValueError):
    """A document that is no set of gates; the message says what was expected and what was got."""


@dataclass(frozen=True)
class Measured:
    """The newest measurement of a variant on one kind of device: `p50_us` is the median of one inference."""

    device_class: str
    device: str
    p50_us: int


@dataclass(frozen=True)
class Miss:
    """`code` is a word for machines, `subject` the device class or recipe it is about (or empty)."""

    code: str
    subject: str
    expected: str
    got: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.subject + ': ' if self.subject else ''}expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class Gates:
    """None, or empty, where there is no gate."""

    max_accuracy_loss: Decimal | None = None
    max_bytes: int | None = None
    max_latency_us: Mapping[str, int] = field(default_factory=dict)
    required_recipes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Any) -> "Gates":
        """Raises GatesError."""
        if not isinstance(data, Mapping):
            raise GatesError(f"expected an object, got {type(data).__name__}")
        if strangers := sorted(str(name) for name in set(data) - set(MEMBERS)):
            raise GatesError(f"expected members among {', '.join(MEMBERS)}, got {strangers[0]!r}")
        loss, most, latency, required = (data.get(name) for name in MEMBERS)
        return cls(
            None if loss is None else _share(loss),
            None if most is None else _amount(most, "max_bytes"),
            {} if latency is None else _by_class(latency),
            () if required is None else _recipes(required),
        )

    def to_json(self) -> dict[str, Any]:
        """Without the members that are no gate."""
        loss = None if self.max_accuracy_loss is None else format(self.max_accuracy_loss, "f")
        members = {
            "max_accuracy_loss": loss,
            "max_bytes": self.max_bytes,
            "max_latency_us": dict(self.max_latency_us),
            "required_recipes": list(self.required_recipes),
        }
        return {name: value for name, value in members.items() if value not in (None, {}, [])}


def misses(
    gates: Gates,
    *,
    report: Mapping[str, Any],
    size_bytes: int,
    benchmarks: Sequence[Measured],
    device_classes: Collection[str],
) -> list[Miss]:
    """Where a variant misses its model's gates.

    `report` is its conversion report as JSON, `device_classes` are those that may be offered the variant: a latency
    gate of another class says nothing of it.
    """
    found = [] if report.get("parity") else [Miss("not_evaluated", "", "outputs compared with the source's", "none")]
    found += _accuracy_misses(gates, report.get("accuracy") or {})
    if gates.max_bytes is not None and size_bytes > gates.max_bytes:
        found.append(Miss("too_many_bytes", "", f"at most {gates.max_bytes} bytes", f"{size_bytes}"))
    for device_class, most_us in sorted(gates.max_latency_us.items()):
        if device_class in device_classes:
            found += _latency_misses(device_class, most_us, benchmarks)
    return found


def missing_recipes(gates: Gates, present: Collection[str]) -> list[Miss]:
    """The required recipes that a release with these variants would lack."""
    return [
        Miss("required_recipe_missing", name, "a variant that may be released", "none")
        for name in gates.required_recipes
        if name not in present
    ]


def accuracy_lost(accuracy: Mapping[str, Any]) -> Decimal | None:
    """By how much the variant is worse than its source, in units of the metric; below 0 where it is better."""
    lost = accuracy.get("lost")
    if lost is not None:
        return Decimal(str(lost))
    if accuracy.get("source_value") is None or accuracy.get("value") is None:
        return None
    return Decimal(str(accuracy["source_value"])) - Decimal(str(accuracy["value"]))


def _accuracy_misses(gates: Gates, accuracy: Mapping[str, Any]) -> list[Miss]:
    if gates.max_accuracy_loss is None:
        return []
    expected = f"at most {gates.max_accuracy_loss:f} of accuracy lost"
    lost = accuracy_lost(accuracy)
    if lost is None:
        return [Miss("accuracy_not_measured", "", expected, "none measured")]
    return [Miss("accuracy_lost", "", expected, f"{lost:.6g}")] if lost > gates.max_accuracy_loss else []


def _latency_misses(device_class: str, most_us: int, benchmarks: Sequence[Measured]) -> list[Miss]:
    expected = f"at most {most_us} µs"
    measured = [benchmark for benchmark in benchmarks if benchmark.device_class == device_class]
    if not measured:
        return [Miss("latency_not_measured", device_class, expected, "none reported")]
    slowest = max(measured, key=lambda benchmark: benchmark.p50_us)
    if slowest.p50_us <= most_us:
        return []
    return [Miss("too_slow", device_class, expected, f"{slowest.p50_us} on {slowest.device}")]


def _share(value: Any) -> Decimal:
    expected = 'expected a share of 0 to 1 as max_accuracy_loss, as text such as "0.02"'
    try:
        share = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        share = None
    if share is None or not share.is_finite() or not 0 <= share <= 1 or len(value) > 20:  # noqa: PLR2004
        raise GatesError(f"{expected}, got {value!r:.40}")
    return share


def _amount(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise GatesError(f"expected a whole number above 0 as {what}, got {value!r:.40}")
    return value


def _by_class(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping) or len(value) > MOST_CLASSES:
        raise GatesError(f"expected an object of device classes as max_latency_us, got {value!r:.40}")
    return {str(name): _amount(most_us, f"max_latency_us of {name!s:.63}") for name, most_us in value.items()}


def _recipes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise GatesError(f"expected a list of recipes as required_recipes, got {value!r:.40}")
    if strangers := [name for name in value if name not in RECIPES]:
        raise GatesError(f"expected required_recipes among {', '.join(RECIPES)}; got {strangers[0]!r:.70}")
    return tuple(dict.fromkeys(value))
