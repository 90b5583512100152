"""The operations of Core ML's ML programs in NumPy: parameter name -> value in, result (or a tuple of them) out.

Numbers arrive as float32 or integers; layouts are Core ML's, (batch, channels, spatial…).
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from registry.conversion.worker.job import WorkerError

Array = npt.NDArray[Any]
Values = Mapping[str, Any]
Operation = Callable[[Values], Any]

# ---- windows: convolution and pooling -------------------------------------------------------------------------------


def _paddings(v: Values, kernel: tuple[int, ...], dilations: tuple[int, ...], sizes: tuple[int, ...]) -> list[Any]:
    """(before, after) per spatial axis. `same` puts the odd one after, `same_lower` before."""
    kind = str(v.get("pad_type", "valid"))
    strides = _strides(v, len(sizes))
    if kind == "custom":
        flat = [int(pad) for pad in v["pad"]]
        return list(zip(flat[::2], flat[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    pairs = []
    for size, stride, taps, dilation in zip(sizes, strides, kernel, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (taps - 1) * dilation + 1 - size)
        pairs.append((total // 2, total - total // 2) if kind == "same" else (total - total // 2, total // 2))
    return pairs


def _strides(v: Values, rank: int) -> tuple[int, ...]:
    return tuple(int(stride) for stride in v.get("strides", (1,) * rank))


def _windows(x: Array, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Any:
    """(n, c, spatial…) -> view (n, c, out…, kernel…)."""
    reach = tuple((taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True))
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    steps = tuple(slice(None, None, stride) for stride in strides)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    return view[(slice(None), slice(None), *steps, *taps)]


def conv(v: Values) -> Any:
    """Weights are (out, in / groups, kernel…)."""
    x, weight, groups = v["x"], v["weight"], int(v.get("groups", 1))
    kernel = weight.shape[2:]
    dilations = tuple(int(d) for d in v.get("dilations", (1,) * len(kernel)))
    pads = _paddings(v, kernel, dilations, x.shape[2:])
    taps = _taps(np.pad(x, [(0, 0), (0, 0), *pads]), kernel, _strides(v, len(kernel)), dilations)
    if weight.shape[:2] == (x.shape[1], 1) and groups == x.shape[1]:
        return _with_bias(_depthwise(taps, weight), v)
    n, channels, *out = taps[0].shape
    columns = np.stack(taps, axis=2).reshape(n, groups, channels // groups * len(taps), math.prod(out))
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    return _with_bias(np.matmul(filters, columns).reshape(n, weight.shape[0], *out), v)


def _taps(x: Array, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> list[Array]:
    """For every place in the kernel, row by row, the values that lie under it: views of (n, c, out…)."""
    sides = list(zip(x.shape[2:], kernel, strides, dilations, strict=True))
    out = [(size - (taps - 1) * dilation - 1) // stride + 1 for size, taps, stride, dilation in sides]
    views = []
    for place in np.ndindex(*kernel):
        starts = [tap * dilation for tap, dilation in zip(place, dilations, strict=True)]
        spans = zip(starts, out, strides, strict=True)
        under = tuple(slice(a, a + (count - 1) * stride + 1, stride) for a, count, stride in spans)
        views.append(x[(slice(None), slice(None), *under)])
    return views


def _depthwise(taps: list[Array], weight: Array) -> Array:
    """One filter a channel: a few multiplications of whole images instead of many tiny matrices."""
    filters = weight.reshape(len(weight), -1)
    ones = (1,) * (taps[0].ndim - 2)
    total = taps[0] * filters[:, 0].reshape(-1, *ones)
    for index, view in enumerate(taps[1:], start=1):
        total += view * filters[:, index].reshape(-1, *ones)
    return total


def _with_bias(x: Array, v: Values) -> Any:
    bias = v.get("bias")
    return x if bias is None else x + np.asarray(bias).reshape(-1, *(1,) * (x.ndim - 2))


def conv_transpose(v: Values) -> Any:
    """Weights are (in, out / groups, kernel…): every input value adds its scaled kernel to the output."""
    x, weight, groups = v["x"], v["weight"], int(v.get("groups", 1))
    kernel, rank = weight.shape[2:], weight.ndim - 2
    strides, dilations = _strides(v, rank), tuple(int(d) for d in v.get("dilations", (1,) * rank))
    per_group = weight.shape[1]
    full = tuple(
        (s - 1) * t + (k - 1) * d + 1 for s, t, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    )
    result = np.zeros((x.shape[0], per_group * groups, *full), np.float32)
    split = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    filters = weight.reshape(groups, -1, *weight.shape[1:])
    for tap in np.ndindex(*kernel):
        part = np.einsum("ngi...,gio->ngo...", split, filters[(slice(None), slice(None), slice(None), *tap)])
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        where = [slice(a, a + (s - 1) * t + 1, t) for a, s, t in zip(starts, x.shape[2:], strides, strict=True)]
        result[(slice(None), slice(None), *where)] += part.reshape(x.shape[0], -1, *x.shape[2:])
    return _with_bias(_cropped(result, v, full), v)


def _cropped(x: Array, v: Values, full: tuple[int, ...]) -> Any:
    wanted = v.get("output_shape")
    kind = str(v.get("pad_type", "valid"))
    if kind == "custom":
        flat = [int(pad) for pad in v["pad"]]
        before = flat[::2]
        sizes = [f - a - b for f, a, b in zip(full, before, flat[1::2], strict=True)]
    elif wanted is not None and kind == "same":
        sizes = [int(size) for size in wanted[2:]]
        before = [max(0, f - size) // 2 for f, size in zip(full, sizes, strict=True)]
    else:
        before, sizes = [0] * len(full), list(full)
    if wanted is not None:
        sizes = [int(size) for size in wanted[2:]]
    short = [max(0, a + size - f) for a, size, f in zip(before, sizes, full, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *((0, s) for s in short)])
    return x[(slice(None), slice(None), *(slice(a, a + size) for a, size in zip(before, sizes, strict=True)))]


def _pooled(v: Values, fill: float) -> tuple[Array, tuple[int, ...], list[Any]]:
    x, kernel = v["x"], tuple(int(size) for size in v["kernel_sizes"])
    if bool(v.get("ceil_mode", False)):
        raise WorkerError("unknown_operation", "expected pooling that rounds down; got ceil_mode")
    pads = _paddings(v, kernel, (1,) * len(kernel), x.shape[2:])
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    return _windows(padded, kernel, _strides(v, len(kernel)), (1,) * len(kernel)), kernel, pads


def max_pool(v: Values) -> Any:
    windows, kernel, _ = _pooled(v, -np.inf)
    return windows.max(axis=tuple(range(-len(kernel), 0)))


def avg_pool(v: Values) -> Any:
    windows, kernel, pads = _pooled(v, 0.0)
    axes = tuple(range(-len(kernel), 0))
    if not bool(v.get("exclude_padding_from_average", False)):
        return windows.mean(axis=axes)
    ones = np.pad(np.ones((1, 1, *v["x"].shape[2:]), np.float32), [(0, 0), (0, 0), *pads])
    counts = _windows(ones, kernel, _strides(v, len(kernel)), (1,) * len(kernel)).sum(axis=axes)
    return windows.sum(axis=axes) / counts


# ---- normalisation and activation -----------------------------------------------------------------------------------


def batch_norm(v: Values) -> Any:
    x = v["x"]
    shape = (-1, *(1,) * (x.ndim - 2))
    mean, variance = v["mean"].reshape(shape), v["variance"].reshape(shape)
    scaled = (x - mean) / np.sqrt(variance + float(v.get("epsilon", 1e-5)))
    return scaled * np.asarray(v.get("gamma", 1.0)).reshape(shape) + np.asarray(v.get("beta", 0.0)).reshape(shape)


def layer_norm(v: Values) -> Any:
    axes = tuple(int(axis) for axis in np.atleast_1d(v["axes"])) if v.get("axes") is not None else (-1,)
    x = v["x"]
    centred = x - x.mean(axis=axes, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + float(v.get("epsilon", 1e-5)))
    return scaled * v.get("gamma", 1.0) + v.get("beta", 0.0)


def instance_norm(v: Values) -> Any:
    x = v["x"]
    shape = (-1, *(1,) * (x.ndim - 2))
    scaled = layer_norm({"x": x, "axes": tuple(range(2, x.ndim)), "epsilon": v.get("epsilon", 1e-5)})
    return scaled * np.asarray(v.get("gamma", 1.0)).reshape(shape) + np.asarray(v.get("beta", 0.0)).reshape(shape)


def gelu(v: Values) -> Any:
    x, mode = v["x"], str(v.get("mode", "EXACT"))
    if mode == "EXACT":
        return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * special.expit(1.702 * x)


def prelu(v: Values) -> Any:
    x, alpha = v["x"], v["alpha"].reshape(-1, *(1,) * (v["x"].ndim - 2))
    return np.where(x < 0, x * alpha, x)


# ---- shapes ---------------------------------------------------------------------------------------------------------


def reshape(v: Values) -> Any:
    shape = [v["x"].shape[i] if size == 0 else int(size) for i, size in enumerate(v["shape"])]
    return v["x"].reshape(shape)


def slice_by_index(v: Values) -> Any:
    x, rank = v["x"], v["x"].ndim
    masks: dict[str, Any] = {name: v.get(name) if v.get(name) is not None else (False,) * rank for name in _SLICE_MASKS}
    stride: Any = v.get("stride") if v.get("stride") is not None else (1,) * rank
    index: list[Any] = []
    for axis in range(rank):
        begin = None if masks["begin_mask"][axis] else int(v["begin"][axis])
        end = None if masks["end_mask"][axis] else int(v["end"][axis])
        index.append(int(v["begin"][axis]) if masks["squeeze_mask"][axis] else slice(begin, end, int(stride[axis])))
    return x[tuple(index)]


_SLICE_MASKS = ("begin_mask", "end_mask", "squeeze_mask")


def slice_by_size(v: Values) -> Any:
    pairs = zip(v["begin"], v["size"], v["x"].shape, strict=True)
    return v["x"][tuple(slice(int(b), whole if int(s) == -1 else int(b) + int(s)) for b, s, whole in pairs)]


def pad(v: Values) -> Any:
    flat = [int(size) for size in v["pad"]]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    widths = [(0, 0)] * (v["x"].ndim - len(pairs)) + pairs
    mode = str(v.get("mode", "constant"))
    if mode == "constant":
        return np.pad(v["x"], widths, constant_values=float(v.get("constant_val", 0.0)))
    return np.pad(v["x"], widths, mode="reflect" if mode == "reflect" else "edge")


def split(v: Values) -> Any:
    axis = int(v["axis"])
    if v.get("split_sizes") is not None:
        return tuple(np.split(v["x"], np.cumsum(v["split_sizes"])[:-1], axis=axis))
    return tuple(np.split(v["x"], int(v["num_splits"]), axis=axis))


def squeeze(v: Values) -> Any:
    axes = v.get("axes")
    return np.squeeze(v["x"], None if axes is None else tuple(int(axis) for axis in axes))


def expand_dims(v: Values) -> Any:
    return np.expand_dims(v["x"], tuple(int(axis) for axis in v["axes"]))


def upsample_nearest_neighbor(v: Values) -> Any:
    factors = float(v.get("scale_factor_height", 1)), float(v.get("scale_factor_width", 1))
    x = v["x"]
    for axis, factor in zip((-2, -1), factors, strict=True):
        if factor != int(factor):
            raise WorkerError("unknown_operation", f"expected a whole factor of upsampling; got {factor}")
        x = x.repeat(int(factor), axis=axis)
    return x


def gather(v: Values) -> Any:
    return np.take(v["x"], np.asarray(v["indices"]).astype(np.int64), axis=int(v.get("axis", 0)))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def matmul(v: Values) -> Any:
    x, y = v["x"], v["y"]
    x = np.swapaxes(x, -1, -2) if bool(v.get("transpose_x", False)) else x
    y = np.swapaxes(y, -1, -2) if bool(v.get("transpose_y", False)) else y
    return np.matmul(x, y)


def linear(v: Values) -> Any:
    """Weights are (out, in)."""
    result = v["x"] @ v["weight"].T
    return result if v.get("bias") is None else result + v["bias"]


def einsum(v: Values) -> Any:
    return np.einsum(str(v["equation"]), *v["values"])


def scaled_dot_product_attention(v: Values) -> Any:
    query, key = v["query"], v["key"]
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    mask = v.get("attn_mask")
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    return special.softmax(scores, axis=-1) @ v["value"]


def clip(v: Values) -> Any:
    return np.clip(v["x"], float(v["alpha"]), float(v["beta"]))


def _reduction(function: Any) -> Operation:
    def reduce(v: Values) -> Any:
        axes = v.get("axes")
        chosen = None if axes is None else tuple(int(axis) for axis in axes)
        return function(v["x"], axis=chosen, keepdims=bool(v.get("keep_dims", False)))

    return reduce


def _arg(function: Any) -> Operation:
    return lambda v: function(v["x"], axis=int(v["axis"]), keepdims=bool(v.get("keep_dims", False)))


def _unary(function: Any) -> Operation:
    return lambda v: function(v["x"])


def _binary(function: Any) -> Operation:
    return lambda v: function(v["x"], v["y"])


def _same(v: Values) -> Any:
    return v["x"]


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "cast": _same,  # the declared output type does it
        "identity": _same,
        "conv": conv,
        "conv_transpose": conv_transpose,
        "max_pool": max_pool,
        "avg_pool": avg_pool,
        "batch_norm": batch_norm,
        "layer_norm": layer_norm,
        "instance_norm": instance_norm,
        "linear": linear,
        "matmul": matmul,
        "einsum": einsum,
        "scaled_dot_product_attention": scaled_dot_product_attention,
        "softmax": lambda v: special.softmax(v["x"], axis=int(v.get("axis", -1))),
        "relu": lambda v: np.maximum(v["x"], 0),
        "relu6": lambda v: np.clip(v["x"], 0, 6),
        "clip": clip,
        "leaky_relu": lambda v: np.where(v["x"] < 0, v["x"] * float(v["alpha"]), v["x"]),
        "elu": lambda v: np.where(v["x"] < 0, float(v["alpha"]) * np.expm1(v["x"]), v["x"]),
        "prelu": prelu,
        "gelu": gelu,
        "silu": lambda v: v["x"] * special.expit(v["x"]),
        "sigmoid": _unary(special.expit),
        "sigmoid_hard": lambda v: np.clip(float(v["alpha"]) * v["x"] + float(v["beta"]), 0, 1),
        "softplus": lambda v: np.logaddexp(0, v["x"]),
        "softsign": lambda v: v["x"] / (1 + np.abs(v["x"])),
        "tanh": _unary(np.tanh),
        "erf": _unary(special.erf),
        "exp": _unary(np.exp),
        "log": lambda v: np.log(v["x"] + float(v.get("epsilon", 0.0))),
        "sqrt": _unary(np.sqrt),
        "rsqrt": lambda v: 1 / np.sqrt(v["x"] + float(v.get("epsilon", 0.0))),
        "inverse": lambda v: 1 / (v["x"] + float(v.get("epsilon", 0.0))),
        "square": _unary(np.square),
        "abs": _unary(np.abs),
        "sign": _unary(np.sign),
        "floor": _unary(np.floor),
        "ceil": _unary(np.ceil),
        "round": _unary(np.round),
        "sin": _unary(np.sin),
        "cos": _unary(np.cos),
        "logical_not": _unary(np.logical_not),
        "add": _binary(np.add),
        "sub": _binary(np.subtract),
        "mul": _binary(np.multiply),
        "real_div": _binary(np.divide),
        "floor_div": _binary(np.floor_divide),
        "mod": _binary(np.mod),
        "pow": _binary(np.power),
        "maximum": _binary(np.maximum),
        "minimum": _binary(np.minimum),
        "equal": _binary(np.equal),
        "not_equal": _binary(np.not_equal),
        "greater": _binary(np.greater),
        "greater_equal": _binary(np.greater_equal),
        "less": _binary(np.less),
        "less_equal": _binary(np.less_equal),
        "logical_and": _binary(np.logical_and),
        "logical_or": _binary(np.logical_or),
        "select": lambda v: np.where(v["cond"], v["a"], v["b"]),
        "reduce_mean": _reduction(np.mean),
        "reduce_sum": _reduction(np.sum),
        "reduce_max": _reduction(np.max),
        "reduce_min": _reduction(np.min),
        "reduce_prod": _reduction(np.prod),
        "reduce_l2_norm": _reduction(lambda x, **how: np.sqrt(np.sum(np.square(x), **how))),
        "reduce_argmax": _arg(np.argmax),
        "reduce_argmin": _arg(np.argmin),
        "reshape": reshape,
        "transpose": lambda v: np.transpose(v["x"], [int(axis) for axis in v["perm"]]),
        "expand_dims": expand_dims,
        "squeeze": squeeze,
        "concat": lambda v: np.concatenate(v["values"], axis=int(v["axis"])),
        "stack": lambda v: np.stack(v["values"], axis=int(v["axis"])),
        "split": split,
        "slice_by_index": slice_by_index,
        "slice_by_size": slice_by_size,
        "pad": pad,
        "tile": lambda v: np.tile(v["x"], [int(count) for count in v["reps"]]),
        "gather": gather,
        "shape": lambda v: np.asarray(v["x"].shape, np.int32),
        "upsample_nearest_neighbor": upsample_nearest_neighbor,
    }
)
