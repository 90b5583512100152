"""The report of one conversion, and its JSON form (what the control plane stores).

Sizes are bytes, times seconds unless the name says `_us` (microseconds), shares lie in 0..1. Every number is finite:
a database's JSON type knows neither NaN nor infinity.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

State = Literal["succeeded", "failed", "timed_out", "out_of_memory", "crashed", "parity_missed", "not_applicable"]
Role = Literal["model", "sanity", "labels", "trace"]
STATES: tuple[str, ...] = get_args(State)


class ReportError(ValueError):
    """A document that is no report."""


@dataclass(frozen=True)
class ProducedFile:
    """`path` is relative to the job's output directory, with `/` between its parts; `sha256` is lower-case hex."""

    path: str
    role: Role
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Parity:
    """Distance from the source's outputs. `top1_agreement` is None for outputs that are no scores over classes."""

    max_abs_error: float
    mean_abs_error: float
    top1_agreement: float | None
    samples: int


@dataclass(frozen=True)
class Accuracy:
    """`value` is the variant's, `source_value` the source's on the same samples. Every interval is 95 %.

    `lost` is how much worse than the source the variant is, in units of the metric: above 0 is worse, for shares and
    for errors alike. It is paired, sample by sample; `p_value` is McNemar's exact one, for shares only. `output` is
    the output measured.
    """

    metric: str
    value: float
    source_value: float | None
    samples: int
    interval_low: float
    interval_high: float
    lost: float | None = None
    lost_low: float | None = None
    lost_high: float | None = None
    p_value: float | None = None
    output: str = ""


@dataclass(frozen=True)
class Outcomes:
    """How each evaluated sample went, so that two variants can be compared sample by sample.

    `samples` is the SHA-256 (hex) of the evaluation set and of which samples were run: equal means the same samples.
    `outputs` maps an output to base64: for shares one bit a sample (1 is a hit, first sample in the highest bit), for
    errors one little-endian float32 a sample.
    """

    samples: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class HostLatency:
    """One inference on the converting host. Compare variants with each other, never with a phone.

    `xnnpack` says whether that delegate was on: False for runtimes that have none.
    """

    p50_us: int
    p90_us: int
    runs: int
    threads: int
    label: str
    xnnpack: bool = True
    p99_us: int | None = None


@dataclass(frozen=True)
class Quantization:
    """Affine, per tensor: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` with the batch axis where there is one, `dtype` such as float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: without the batch axis, where there is one (of size 1)."""
        return self.shape[1:] if self.shape[:1] == (1,) else self.shape

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TensorSpec":
        quantization = Quantization(**data["quantization"]) if data.get("quantization") else None
        return cls(data["name"], tuple(data["shape"]), data["dtype"], quantization)


@dataclass(frozen=True)
class Signature:
    """What goes into a model and what comes out, in the order that its runtime keeps."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Signature":
        inputs, outputs = (tuple(map(TensorSpec.from_json, data[side])) for side in ("inputs", "outputs"))
        return cls(inputs, outputs)


@dataclass(frozen=True)
class Failure:
    """`code` is a word for machines, `detail` a sentence with what was expected and what was got."""

    code: str
    detail: str


@dataclass(frozen=True)
class Report:
    """`accuracy` and `latency_host` are the ones people ask for first, of all in `accuracies` and `latencies`: that of
    the first labelled output, and that of one thread with XNNPACK.

    `compressed_size_bytes` is what zstd at level 19 makes of the model's files, each for itself.
    `inference_memory_bytes` is how much the verifying process grew by loading and running the variant. `speed_ratio` is
    the median time of an inference over that of the same version's float32 file: above 1 is slower.
    """

    state: State
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    files: tuple[ProducedFile, ...] = ()
    entry: str = ""
    converter_versions: Mapping[str, str] = field(default_factory=dict)
    parity: Parity | None = None
    accuracy: Accuracy | None = None
    latency_host: HostLatency | None = None
    signature: Signature | None = None
    min_runtime_version: str = ""
    error: Failure | None = None
    log_tail: str = ""
    notes: tuple[str, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    latencies: tuple[HostLatency, ...] = ()
    compressed_size_bytes: int | None = None
    inference_memory_bytes: int | None = None
    speed_ratio: float | None = None
    outcomes: Outcomes | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes a phone stores to run the model (role `model` only)."""
        return sum(file.size_bytes for file in self.files if file.role == "model")

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Report":
        """Raises ReportError when a member is missing, unknown or of the wrong kind."""
        if data.get("state") not in STATES:
            raise ReportError(f"expected a state among {', '.join(STATES)}; got {data.get('state')!r}")
        try:
            return cls(**{key: _decode(key, value) for key, value in data.items()})
        except (TypeError, KeyError, ValueError) as error:
            raise ReportError(f"expected the members of a conversion report; got {error}") from error


_RECORDS: Mapping[str, Any] = {
    "parity": lambda data: Parity(**data),
    "accuracy": lambda data: Accuracy(**data),
    "latency_host": lambda data: HostLatency(**data),
    "signature": Signature.from_json,
    "error": lambda data: Failure(**data),
    "outcomes": lambda data: Outcomes(**data),
}
_LISTS: Mapping[str, Any] = {
    "files": lambda data: ProducedFile(**data),
    "notes": str,
    "accuracies": lambda data: Accuracy(**data),
    "latencies": lambda data: HostLatency(**data),
}


def _decode(key: str, value: Any) -> Any:
    if key in _LISTS:
        return tuple(map(_LISTS[key], value))
    if key in _RECORDS and value is not None:
        return _RECORDS[key](value)
    return value


def not_applicable(reason: str) -> Report:
    """The report of a recipe that was planned away."""
    return Report(state="not_applicable", error=Failure("not_applicable", reason))


def merged(first: Report, second: Report) -> Report:
    """One report of two processes that ran one after the other; the second's findings win where both have one."""
    return replace(
        second,
        seconds=round(first.seconds + second.seconds, 3),
        peak_memory_bytes=max(first.peak_memory_bytes, second.peak_memory_bytes),
        files=first.files + second.files,
        entry=second.entry or first.entry,
        converter_versions={**first.converter_versions, **second.converter_versions},
        signature=second.signature or first.signature,
        min_runtime_version=second.min_runtime_version or first.min_runtime_version,
        log_tail=(first.log_tail + second.log_tail)[-LOG_TAIL_CHARACTERS:],
        notes=first.notes + second.notes,
    )


LOG_TAIL_CHARACTERS = 8_000
