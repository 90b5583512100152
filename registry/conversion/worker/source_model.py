"""A Keras file or a SavedModel, loaded and turned into one concrete function. Only traces load this: it is TensorFlow.

Every converter gets the same function of batch 1 with named inputs and outputs. None gets the Keras object: the
TensorFlow Lite converter would keep a dynamic batch or, told of a function and the object, write an empty model without
an error; Core ML's refuses Keras 3 altogether.
"""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from registry.conversion.report import TensorSpec
from registry.conversion.worker.golden import Ranges
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.progress import tell
from registry.conversion.worker.refusals import first_sentence, keras_refusal, saved_model_refusal

Array = npt.NDArray[np.generic]

DEFAULT_SIGNATURE = "serving_default"
SMALLEST_SCALED_RANGE = 2.0
_NUMERIC = frozenset(
    {"bool", "float16", "float32", "float64"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


@dataclass(frozen=True)
class Source:
    """A loaded model: `call` maps input name -> tensor to output name -> tensor; `module` keeps its variables alive."""

    call: Callable[[Mapping[str, Any]], dict[str, Any]]
    inputs: tuple[TensorSpec, ...]
    module: Any
    ranges: Ranges


@dataclass(frozen=True)
class TracedSource:
    """A source and its function, which refers to the source's variables and does not keep them: hold on to both."""

    source: Source
    function: Any


def traced(job: Job) -> TracedSource:
    """Load the job's source and make its one function. Raises WorkerError."""
    tell(job.scratch, "loading", 5)
    try:
        source = load(job)
        tell(job.scratch, "tracing", 40)
        return TracedSource(source, concrete(source))
    except (WorkerError, MemoryError):
        raise
    except Exception as error:  # a damaged graph makes TensorFlow raise whatever the place that stumbles raises
        if job.source_format != "saved_model":
            raise
        raise WorkerError("saved_model_refused", saved_model_refusal(error)) from error


def load(job: Job) -> Source:
    """Raises WorkerError for a source that no function of known shapes can be made of."""
    return source_of(load_keras_model(job)) if job.source_format == "keras" else _load_saved_model(job)


def readable(name: str) -> str:
    """A name both runtimes take as an identifier: letters, digits and underscores, not starting with a digit."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{word}" if word[:1].isdigit() or not word else word


def distinct(names: Sequence[str]) -> list[str]:
    """`readable` names, a repeated one numbered from 1."""
    taken: list[str] = []
    for name in map(readable, names):
        number, candidate = 0, name
        while candidate in taken:
            number, candidate = number + 1, f"{name}_{number + 1}"
        taken.append(candidate)
    return taken


def fixed_shape(name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
    """Batch 1 and known sizes after it: a model of unknown sizes cannot be checked for every one of them."""
    if not shape or any(size is None for size in shape[1:]):
        raise WorkerError(
            "unknown_shape",
            f"expected known sizes after the batch for input {name!r}; got {_sizes(shape)}: give the sizes the app "
            "will use (keras.Input, or tf.TensorSpec when exporting), and save the model again",
        )
    if shape[0] not in {None, 1}:
        raise WorkerError(
            "fixed_batch",
            f"expected a batch of 1 or of any size for input {name!r}; got {shape[0]}: phones run one sample at a "
            "time, so save the model with a batch of None or 1",
        )
    return (1, *(int(size) for size in shape[1:] if size is not None))


def _sizes(shape: Sequence[int | None]) -> str:
    """`(any, any, 3)`; a shape of unknown rank says so."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})" if shape else "any rank"


def _spec(name: str, shape: Sequence[int | None], dtype: str) -> TensorSpec:
    if dtype not in _NUMERIC:
        raise WorkerError(
            "input_type",
            f"expected a numeric input {name!r}; got {dtype}: leave what turns it into numbers to the app",
        )
    return TensorSpec(name, fixed_shape(name, shape), dtype)


def load_keras_model(job: Job) -> Any:
    try:
        model = keras.models.load_model(_with_suffix(job), safe_mode=True, compile=False)
    except MemoryError:
        raise  # a limit of ours, not the file's fault
    except Exception as error:  # damaged configurations make Keras raise whatever its layers' constructors raise
        raise WorkerError("keras_refused", keras_refusal(error)) from error
    if not getattr(model, "inputs", None):
        raise WorkerError("not_built", "expected a Keras model with known inputs; got one that was never built")
    return model


def source_of(model: Any) -> Source:
    flat_inputs, flat_outputs = list(model.inputs), list(model.outputs)
    specs = tuple(
        _spec(name, tensor.shape, str(tensor.dtype))
        for name, tensor in zip(distinct([t.name for t in flat_inputs]), flat_inputs, strict=True)
    )
    outputs = distinct([_layer_name(tensor) for tensor in flat_outputs])
    # A Sequential model that was loaded from a file knows its inputs but has no `input`.
    structure = flat_inputs[0] if isinstance(model, keras.Sequential) else model.input

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        packed = keras.tree.pack_sequence_as(structure, [tensors[spec.name] for spec in specs])
        return dict(zip(outputs, keras.tree.flatten(model(packed, training=False)), strict=True))

    return Source(call, specs, _module(weights=[v.value for v in model.variables]), _ranges(model, specs))


def _with_suffix(job: Job) -> Path:
    """Keras chooses the loader by the file's suffix; content-addressed files have none."""
    assert job.source is not None
    link = job.scratch / "source.keras"
    link.symlink_to(job.source)
    return link


def _layer_name(tensor: Any) -> str:
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else tensor.name)


def _module(**attributes: Any) -> Any:
    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def _ranges(model: Any, specs: Sequence[TensorSpec]) -> Ranges:
    """Sensible values for random golden inputs: what the model's own first layers say about its inputs."""
    ranges: dict[str, tuple[float, float]] = {}
    for spec in specs:
        if np.dtype(spec.dtype).kind in "iu":
            vocabularies = [layer.input_dim for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
            ranges[spec.name] = (0, min(vocabularies) - 1) if vocabularies else (0, 1)
            continue
        scales = [float(np.max(layer.scale)) for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
        if scales and scales[0] > 0:
            # Rescaling(1/255) and Rescaling(1/127.5, -1) both say: pixels of 0..255.
            ranges[spec.name] = (0.0, 255.0 if scales[0] < SMALLEST_SCALED_RANGE / 100 else 1.0)
    return ranges


def _load_saved_model(job: Job) -> Source:
    assert job.source is not None
    loaded = tf.saved_model.load(str(_unpacked(job.source, job.scratch / "saved_model")))
    serving = loaded.signatures[_served(sorted(loaded.signatures), job.source_signature)]
    tensors = serving.structured_input_signature[1]
    renamed = dict(zip(distinct(list(tensors)), tensors.items(), strict=True))
    specs = tuple(
        _spec(name, spec.shape.as_list() if spec.shape.rank is not None else (), spec.dtype.name)
        for name, (_, spec) in renamed.items()
    )
    outputs = dict(zip(sorted(serving.structured_outputs), distinct(sorted(serving.structured_outputs)), strict=True))

    def call(given: Mapping[str, Any]) -> dict[str, Any]:
        results = serving(**{original: given[name] for name, (original, _) in renamed.items()})
        return {outputs[original]: value for original, value in results.items()}

    return Source(call, specs, _module(loaded=loaded), {})


def _served(names: Sequence[str], wanted: str) -> str:
    """The signature that is asked for, or the default one, or the only one."""
    known = ", ".join(names) or "none"
    if wanted:
        if wanted not in names:
            raise WorkerError("no_signature", f"expected one of the SavedModel's signatures ({known}); got {wanted!r}")
        return wanted
    if DEFAULT_SIGNATURE in names:
        return DEFAULT_SIGNATURE
    if len(names) != 1:
        raise WorkerError(
            "no_signature",
            f"expected a signature {DEFAULT_SIGNATURE!r}, or only one, or source_signature to name one; got {known}",
        )
    return names[0]


def _unpacked(source: Path, target: Path) -> Path:
    """The SavedModel's folder: `source` itself, or what its zip holds (already checked by inspection)."""
    if source.is_dir():
        return source
    with zipfile.ZipFile(source) as archive:
        archive.extractall(target)
    found = [path.parent for path in target.rglob("saved_model.pb")]
    if len(found) != 1:
        raise WorkerError("not_saved_model", f"expected one saved_model.pb in the archive; got {len(found)}")
    return found[0]


def concrete(source: Source) -> Any:
    """One function of batch 1, its arguments and results named."""
    specs = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in source.inputs}
    traced = tf.function(lambda **tensors: source.call(tensors), autograph=False)
    return traced.get_concrete_function(**specs)


def outputs_of(function: Any) -> tuple[TensorSpec, ...]:
    """Outputs sorted by name, which is also the order of `function.outputs`."""
    specs = []
    for name, spec in sorted(function.structured_outputs.items()):
        if not spec.shape.is_fully_defined():
            raise WorkerError(
                "unknown_shape",
                f"expected a known shape of output {name!r}; got {spec.shape}: it must not depend on values",
            )
        specs.append(TensorSpec(name, tuple(spec.shape.as_list()), spec.dtype.name))
    return tuple(specs)


def inference_of(function: Any) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The function as golden inputs and evaluation sets are run on it: arrays in, float32 arrays out."""

    def infer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = function(**{name: tf.constant(array) for name, array in inputs.items()})
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError from error
        except tf.errors.OpError as error:
            told = first_sentence(str(error))
            raise WorkerError("does_not_run", f"expected a source that runs; got {told}") from error
        return {name: results[name].numpy().astype(np.float32) for name in sorted(results)}

    return infer
