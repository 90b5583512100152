"""Compressing the weights of a saved Core ML package, and finding out whether that happened.

coremltools skips a weight it cannot compress with no more than a line in its log: a group or block size that does not
divide a number of channels, or a weight that feeds operations with different axes. So sizes are chosen weight by
weight, and afterwards every weight is looked up in the result.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.optimize import coreml as optimize

from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.palettes import nearest, palette

logging.getLogger("coremltools").setLevel(logging.ERROR)

SMALLEST_DIVISOR = 4
# Weights that were left as they are: more than this share of all makes the variant something else than its name says.
MOST_LEFT = 0.1


@dataclass(frozen=True)
class Weight:
    """A constant of floats with at least two axes, of which two count channels of the operation that uses it.

    `compressed` is true where the program holds it in another form than an array of floats.
    """

    name: str
    shape: tuple[int, ...]
    input_axis: int
    output_axis: int
    compressed: bool
    zeros: int = 0

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def weights_of(model: Any) -> list[Weight]:
    """Weights in the order of the program."""
    spec = model.get_spec()
    program = load_program(spec, spec.specificationVersion, model.weights_dir)
    found = []
    for op in program.functions["main"].operations:
        is_weight = op.op_type == "const" or op.op_type.startswith("constexpr_")
        users = [user for output in op.outputs for user in output.child_ops]
        if is_weight and users and not any(user.op_type.startswith("constexpr_") for user in users):
            found += _weight(op, users)
    return found


def _weight(op: Any, users: list[Any]) -> list[Weight]:
    """The one weight, or none when it is no table of floats."""
    value = op.outputs[0].val if op.op_type == "const" else op.materialized_val_inference()
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 2:  # noqa: PLR2004
        return []
    compressed = op.op_type != "const"
    zeros = int(value.size - np.count_nonzero(value))
    return [Weight(op.name, value.shape, *_channel_axes(op, users[0]), compressed, zeros)]


def _channel_axes(op: Any, user: Any) -> tuple[int, int]:
    """(input channels, output channels) in the layout of the operation that uses the weight."""
    last, before = op.outputs[0].rank - 1, op.outputs[0].rank - 2
    if user.op_type == "conv_transpose":
        return 0, 1
    if user.op_type != "matmul":
        return 1, 0
    if user.y.op is op:
        return (last, before) if bool(user.transpose_y.val) else (before, last)
    return (before, last) if bool(user.transpose_x.val) else (last, before)


def divisor(channels: int, wanted: int) -> int:
    """The largest number of channels up to `wanted` that divides them all; 0 for all together when that is tiny."""
    best = max(size for size in range(1, min(wanted, channels) + 1) if channels % size == 0)
    return best if best >= min(SMALLEST_DIVISOR, wanted) else 0


def compress(model: Any, passes: list[Mapping[str, Any]], specification_version: int, weight_threshold: int) -> Any:
    """The model with every pass applied. Raises WorkerError `not_applicable` for a model of small weights only."""
    large = [weight for weight in weights_of(model) if weight.size > weight_threshold]
    if not large:
        raise WorkerError("not_applicable", f"expected a weight of more than {weight_threshold} values; got none")
    raised = model.get_spec()
    raised.specificationVersion = max(raised.specificationVersion, specification_version)
    result = ct.models.MLModel(raised, weights_dir=model.weights_dir, skip_model_load=True)
    for number, settings in enumerate(passes):
        chosen = _Chosen(large, weight_threshold, joint=number > 0)
        result = _PASSES[settings["kind"]](result, settings, chosen)
    return result


@dataclass(frozen=True)
class _Chosen:
    """What a pass works on. `joint` for one that follows another: it may compress what that one compressed."""

    weights: list[Weight]
    threshold: int
    joint: bool


def _linear(model: Any, settings: Mapping[str, Any], chosen: _Chosen) -> Any:
    common = {"mode": "linear_symmetric", "dtype": settings["dtype"], "weight_threshold": chosen.threshold}
    config = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(granularity="per_channel", **common))
    for weight in chosen.weights if settings.get("block") else ():
        size = divisor(weight.shape[weight.input_axis], settings["block"])
        if size:
            by_block = optimize.OpLinearQuantizerConfig(granularity="per_block", block_size=size, **common)
            config.set_op_name(weight.name, by_block)
    return optimize.linear_quantize_weights(model, config, joint_compression=chosen.joint)


def _palette(model: Any, settings: Mapping[str, Any], chosen: _Chosen) -> Any:
    common = {
        "mode": "custom",
        "lut_function": _table_maker(settings["bits"]),
        "weight_threshold": chosen.threshold,
    }
    config = optimize.OptimizationConfig(optimize.OpPalettizerConfig(**common))
    for weight in chosen.weights if settings.get("group") else ():
        size = divisor(weight.shape[weight.output_axis], settings["group"])
        if size:
            grouped = {"granularity": "per_grouped_channel", "group_size": size, "channel_axis": weight.output_axis}
            config.set_op_name(weight.name, optimize.OpPalettizerConfig(**common, **grouped))
    return optimize.palettize_weights(model, config, joint_compression=chosen.joint)


def _table_maker(bits: int) -> Callable[[Any], tuple[Any, Any]]:
    """What coremltools calls for each weight or group: values -> (table, flat indices)."""

    def make(values: Any) -> tuple[Any, Any]:
        flat = np.asarray(values).ravel()
        nonzero = flat[flat != 0]
        # A pruned weight's zeros are not stored, so none of the table's entries is spent on them.
        chosen = nonzero if 0 < 2 * len(nonzero) <= len(flat) else flat
        table = palette(chosen, 2**bits).astype(flat.dtype)
        return table, nearest(flat, table).astype(np.uint8)

    return make


def _prune(model: Any, settings: Mapping[str, Any], chosen: _Chosen) -> Any:
    if "sparsity" in settings:
        how = optimize.OpMagnitudePrunerConfig(target_sparsity=settings["sparsity"], weight_threshold=chosen.threshold)
        return optimize.prune_weights(model, optimize.OptimizationConfig(how), joint_compression=chosen.joint)
    sparse = [weight for weight in chosen.weights if 2 * weight.zeros >= weight.size]
    if not sparse:
        raise WorkerError("not_pruned", "expected a trace whose weights are zero for the most part; got none such")
    how = optimize.OpThresholdPrunerConfig(
        threshold=0.0, minimum_sparsity_percentile=0.5, weight_threshold=chosen.threshold
    )
    return optimize.prune_weights(model, optimize.OptimizationConfig(how), joint_compression=chosen.joint)


_PASSES: Mapping[str, Callable[..., Any]] = MappingProxyType({"linear": _linear, "palette": _palette, "prune": _prune})


def require_compressed(model: Any, weight_threshold: int) -> tuple[str, ...]:
    """Notes on weights that stayed as they were. Raises WorkerError when those are more than a tenth of all values."""
    weights = weights_of(model)
    total = sum(weight.size for weight in weights)
    left = [weight for weight in weights if weight.size > weight_threshold and not weight.compressed]
    named = ", ".join(f"{weight.name} {list(weight.shape)}" for weight in left)
    if sum(weight.size for weight in left) > MOST_LEFT * total:
        raise WorkerError("not_compressed", f"expected every large weight compressed; got these as they were: {named}")
    small = [weight for weight in weights if weight.size <= weight_threshold and not weight.compressed]
    share = sum(weight.size for weight in small) / total
    return (
        *((f"weights left as they were: {named}",) if left else ()),
        *(
            (f"{len(small)} weights of at most {weight_threshold} values ({share:.1%}) stay as they were",)
            if small
            else ()
        ),
    )
