"""Sanity vectors: a few inputs with the outputs this very variant gave on the server, run before activation."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from aerogram_sdk.errors import InputInvalid, SanityInvalid, SanityMismatch
from aerogram_sdk.runtimes import Array, LoadedModel


@dataclass(frozen=True, slots=True)
class SanityVectors:
    """`samples`: pairs of inputs and expected outputs, by tensor name.

    `tolerance`: largest absolute difference allowed, in units of max(1, largest expected magnitude of the tensor), so
    that it means the same for probabilities and for large logits.
    """

    tolerance: float
    samples: tuple[tuple[dict[str, Array], dict[str, Array]], ...]

    @classmethod
    def from_json(cls, data: bytes, signed_tolerance: str) -> Self:
        """The stricter of the file's and the manifest's tolerance counts. Raises SanityInvalid."""
        try:
            document = json.loads(data)
            samples = tuple((_tensors(item["inputs"]), _tensors(item["outputs"])) for item in document["samples"])
            tolerance = min(float(document["tolerance"]), float(signed_tolerance))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
            raise SanityInvalid(f"sanity vectors: expected samples of base64 tensors, got {error!r}") from error
        if not samples or not tolerance >= 0:
            raise SanityInvalid(f"sanity vectors: expected samples and a tolerance, got {len(samples)} and {tolerance}")
        return cls(tolerance, samples)

    def check(self, model: LoadedModel) -> None:
        """Raises SanityMismatch with the worst difference, SanityInvalid if the vectors do not fit the inputs."""
        for number, (inputs, expected) in enumerate(self.samples):
            outputs = _run(number, inputs, model)
            for name, wanted in expected.items():
                self._compare(f"sanity vector {number}, {name}", wanted, outputs.get(name))

    def _compare(self, what: str, wanted: Array, got: Array | None) -> None:
        if got is None or got.shape != wanted.shape:
            raise SanityMismatch(f"{what}: expected shape {wanted.shape}, got {None if got is None else got.shape}")
        left, right = got.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinities give NaN, which the comparison below refuses
            worst = float(np.max(np.abs(left - right), initial=0.0))
        allowed = self.tolerance * max(1.0, float(np.max(np.abs(right), initial=0.0)))
        if not worst <= allowed:
            raise SanityMismatch(f"{what}: expected within {allowed:g}, got a difference of {worst:g}")


def _run(number: int, inputs: Mapping[str, Array], model: LoadedModel) -> dict[str, Array]:
    try:
        return model.run(inputs)
    except InputInvalid as error:
        raise SanityInvalid(f"sanity vector {number}: {error}") from error
    except Exception as error:
        raise SanityMismatch(f"sanity vector {number}: expected outputs, got {error!r}") from error


def encode_tensor(values: Array) -> dict[str, Any]:
    """One tensor as the vectors' file holds it: little-endian bytes in base64."""
    little = values.astype(values.dtype.newbyteorder("<"))
    return {
        "dtype": values.dtype.name,
        "shape": list(values.shape),
        "data": base64.b64encode(little.tobytes()).decode(),
    }


def _tensors(document: Mapping[str, Any]) -> dict[str, Array]:
    return {name: _tensor(value) for name, value in document.items()}


def _tensor(document: Mapping[str, Any]) -> Array:
    dtype = np.dtype(document["dtype"])
    if dtype.kind not in "fiub":
        raise ValueError(f"dtype: expected a number or bool, got {dtype}")
    data = base64.b64decode(document["data"], validate=True)
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(document["shape"])
