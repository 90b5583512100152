"""Steps of the `tflite` family: each writes the recipe's entry into the job's output."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from registry.conversion.recipes import Recipe
from registry.conversion.worker import progress
from registry.conversion.worker.clustering import cluster_weights
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.promises import TABLES_BYTES, require_compressed
from registry.conversion.worker.quantiser import quantised
from registry.conversion.worker.tflite_border import with_uint8_border
from registry.conversion.worker.tflite_weights import WeightTensor, weights_of, zero_share
from registry.conversion.worker.trace_files import Trace

VERSIONS_OF = ("ai-edge-quantizer", "ai-edge-litert", "numpy")
# Pruning leaves small tensors alone; what it does prune may miss its share by rounding.
SPARSITY_TOLERANCE = 0.01

Notes = tuple[str, ...]


def copy_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    shutil.copyfile(_source(job, trace), job.output / recipe.entry)
    return ()


def publish_as_is(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    if trace.source_format != "tflite":
        raise WorkerError("not_applicable", f"expected a ready .tflite source; got {trace.source_format}")
    return copy_tflite(job, recipe, trace)


def quantise_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    source = _source(job, trace)
    model = quantised(source, job, recipe, trace)
    (job.output / recipe.entry).write_bytes(model)
    return size_notes(source.stat().st_size, len(model), recipe)


def quantise_tflite_to_uint8(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    notes = quantise_tflite(job, recipe, trace)
    entry = job.output / recipe.entry
    entry.write_bytes(with_uint8_border(entry.read_bytes()))
    return notes


def cluster_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    return _clustered(job, recipe, trace, job.output / recipe.entry)


def cluster_and_quantise_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    """Quantised along channels: each multiplies the clusters by its own scale, so each keeps its own few integers."""
    between = job.scratch / "clustered.tflite"
    _clustered(job, recipe, trace, between)
    model = quantised(between, job, recipe, trace)
    (job.output / recipe.entry).write_bytes(model)
    return (*distinct_notes(model, recipe), *size_notes(between.stat().st_size, len(model), recipe))


def _clustered(job: Job, recipe: Recipe, trace: Trace, target: Path) -> Notes:
    progress.tell(job.scratch, "clustering", 10)
    model = cluster_weights(_source(job, trace).read_bytes(), recipe.parameters["clusters"])
    target.write_bytes(model)
    return distinct_notes(model, recipe)


def distinct_notes(model: bytes, recipe: Recipe) -> Notes:
    """Raises WorkerError where a weight tensor (of int8: one channel of it) holds more values than clusters."""
    clusters: int = recipe.parameters["clusters"]
    found = {weights.name: _distinct_values(weights) for weights in weights_of(model)}
    if not found:
        raise WorkerError("not_applicable", "expected weights of convolutions or dense layers to cluster; got none")
    over = next((f"{count} in {name!r}" for name, count in found.items() if count > clusters), "")
    if over:
        raise WorkerError(
            "not_clustered", f"expected at most {clusters} distinct values in a weight tensor; got {over}"
        )
    return (f"{len(found)} weight tensors with at most {max(found.values())} distinct values; smaller when compressed",)


def _distinct_values(weights: WeightTensor) -> int:
    if weights.values.dtype.kind == "f":
        return len(np.unique(weights.values))
    channels = np.moveaxis(weights.values, weights.channel_axis, 0)
    return max(len(np.unique(channel)) for channel in channels)


def copy_pruned_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    copy_tflite(job, recipe, trace)
    return sparsity_notes(_source(job, trace).read_bytes(), recipe)


def quantise_pruned_tflite(job: Job, recipe: Recipe, trace: Trace) -> Notes:
    notes = quantise_tflite(job, recipe, trace)
    return (*sparsity_notes((job.output / recipe.entry).read_bytes(), recipe), *notes)


def sparsity_notes(model: bytes, recipe: Recipe) -> Notes:
    """Raises WorkerError for a model without a single tensor as sparse as the recipe promises."""
    expected = recipe.parameters["sparsity_percent"] / 100
    tensors = [weights.values for weights in weights_of(model)]
    pruned = [values for values in tensors if zero_share(values) >= expected - SPARSITY_TOLERANCE]
    zeros, total = (sum(int(count) for count in counts) for counts in zip(*map(_zeros, tensors), strict=True))
    share = f"{100 * zeros / total:.1f} % of all {total} weights are zero"
    if not pruned:
        raise WorkerError("not_pruned", f"expected weights of which {expected:.0%} are zero; got {share}")
    return (f"{share}; {len(pruned)} of {len(tensors)} weight tensors pruned to {expected:.0%}",)


def _zeros(values: np.ndarray) -> tuple[int, int]:
    return int(np.sum(values == 0)), values.size


def size_notes(source_bytes: int, variant_bytes: int, recipe: Recipe) -> Notes:
    """Raises WorkerError for a file that was silently left uncompressed; a note when part of it was."""
    require_compressed(variant_bytes, source_bytes, recipe)
    expected = round(recipe.expected_size_ratio * source_bytes) + TABLES_BYTES
    if variant_bytes <= expected:
        return ()
    return (
        f"expected at most {expected} bytes of {source_bytes}, got {variant_bytes}: some layers were not quantised",
    )


def _source(job: Job, trace: Trace) -> Path:
    assert job.trace is not None
    return job.trace / trace.tflite


STEPS: Mapping[str, Callable[[Job, Recipe, Trace], Notes]] = MappingProxyType(
    {
        step.__name__: step
        for step in (
            copy_tflite,
            publish_as_is,
            quantise_tflite,
            quantise_tflite_to_uint8,
            cluster_tflite,
            cluster_and_quantise_tflite,
            copy_pruned_tflite,
            quantise_pruned_tflite,
        )
    }
)
