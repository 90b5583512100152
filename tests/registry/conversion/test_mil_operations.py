"""The operations of the Core ML interpreter against independent definitions of the same thing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.light

signal = pytest.importorskip("scipy.signal", reason="needs SciPy (extra `light`)")

from registry.conversion.worker import mil_operations as mil  # noqa: E402

random = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def test_convolution_is_a_correlation_summed_over_channels() -> None:
    x, w = normal(1, 3, 7, 6), normal(4, 3, 3, 2)
    expected = [sum(signal.correlate(x[0, c], w[o, c], "valid") for c in range(3)) for o in range(4)]
    np.testing.assert_allclose(mil.conv({"x": x, "weight": w})[0], expected, rtol=1e-4, atol=1e-5)


def test_groups_see_their_own_channels_only() -> None:
    x, w = normal(1, 4, 5, 5), normal(4, 1, 3, 3)
    whole = mil.conv({"x": x, "weight": w, "groups": 4})
    for channel in range(4):
        alone = mil.conv({"x": x[:, channel : channel + 1], "weight": w[channel : channel + 1]})
        np.testing.assert_allclose(whole[:, channel : channel + 1], alone, rtol=1e-5)


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_keeps_the_size_over_the_stride(size: int, stride: int) -> None:
    v = {"x": normal(1, 2, size, size), "weight": normal(3, 2, 3, 3), "pad_type": "same", "strides": (stride, stride)}
    assert mil.conv(v).shape == (1, 3, -(-size // stride), -(-size // stride))


def test_same_puts_the_odd_row_after_and_same_lower_before() -> None:
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 4, 1)
    v = {"x": x, "weight": np.ones((1, 1, 2, 1), np.float32)}
    assert mil.conv({**v, "pad_type": "same"}).ravel().tolist() == [3, 5, 7, 4]
    assert mil.conv({**v, "pad_type": "same_lower"}).ravel().tolist() == [1, 3, 5, 7]


@given(
    stride=st.integers(1, 3), dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]), pads=st.sampled_from([0, 1])
)
def test_transposed_convolution_is_the_adjoint_of_convolution(
    stride: int, dilation: int, groups: int, pads: int
) -> None:
    """<conv(x), y> = <x, conv_transpose(y)> for every x and y, with the same weights."""
    how = {"strides": (stride, stride), "dilations": (dilation, dilation), "groups": groups, "pad_type": "custom"}
    how["pad"] = (pads,) * 4
    w, x = normal(4, 4 // groups, 3, 3), normal(1, 4, 13, 13)
    y = normal(*mil.conv({"x": x, "weight": w, **how}).shape)
    back = mil.conv_transpose({"x": y, "weight": w, **how, "output_shape": x.shape})
    left = float((mil.conv({"x": x, "weight": w, **how}) * y).sum())
    assert left == pytest.approx(float((x * back).sum()), rel=1e-3, abs=1e-2)


def test_padding_counts_in_an_average_unless_excluded() -> None:
    v = {"x": np.ones((1, 1, 3, 3), np.float32), "kernel_sizes": (3, 3), "pad_type": "same"}
    assert mil.avg_pool(v)[0, 0, 0, 0] == pytest.approx(4 / 9)
    assert mil.avg_pool({**v, "exclude_padding_from_average": True})[0, 0, 0, 0] == pytest.approx(1)


def test_padding_never_wins_a_maximum() -> None:
    v = {"x": -np.ones((1, 1, 3, 3), np.float32), "kernel_sizes": (3, 3), "pad_type": "same", "strides": (2, 2)}
    assert mil.max_pool(v).ravel().tolist() == [-1, -1, -1, -1]


def test_normalisations_centre_and_scale() -> None:
    x = normal(1, 4, 6, 6) * 3 + 5
    layered = mil.layer_norm({"x": x, "axes": (1, 2, 3), "epsilon": 0.0})
    assert (layered.mean(), layered.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-4))
    instance = mil.instance_norm({"x": x, "epsilon": 0.0})
    np.testing.assert_allclose(instance.std(axis=(2, 3)), 1, atol=1e-4)
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    batch = mil.batch_norm({"x": x, "mean": mean, "variance": variance, "gamma": mean, "epsilon": 0.0})
    np.testing.assert_allclose(batch.std(axis=(0, 2, 3)), np.abs(mean), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "v", "expected"),
    [
        ("relu6", {"x": np.array([-1.0, 3, 9])}, [0, 3, 6]),
        ("leaky_relu", {"x": np.array([-2.0, 2]), "alpha": 0.1}, [-0.2, 2]),
        ("elu", {"x": np.array([0.0, 2]), "alpha": 1.0}, [0, 2]),
        ("sigmoid", {"x": np.array([0.0, 100, -100])}, [0.5, 1, 0]),
        ("silu", {"x": np.array([0.0, 50])}, [0, 50]),
        ("gelu", {"x": np.array([0.0, 1.0])}, [0, 0.8413447]),
        ("softmax", {"x": np.array([0.0, 0.0, 1000]), "axis": -1}, [0, 0, 1]),
        ("rsqrt", {"x": np.array([4.0]), "epsilon": 0.0}, [0.5]),
        ("reduce_mean", {"x": np.array([[1.0, 3], [5, 7]]), "axes": (1,)}, [2, 6]),
        ("reduce_argmax", {"x": np.array([[1.0, 3], [9, 7]]), "axis": 1}, [1, 0]),
        ("reshape", {"x": np.arange(6.0).reshape(2, 3), "shape": (0, -1)}, [[0, 1, 2], [3, 4, 5]]),
        ("slice_by_index", {"x": np.arange(5.0), "begin": (1,), "end": (4,), "stride": (2,)}, [1, 3]),
        ("slice_by_index", {"x": np.arange(4.0).reshape(2, 2), "begin": (1, 0), "end": (2, 0),
                            "end_mask": (False, True), "squeeze_mask": (True, False)}, [2, 3]),
        ("slice_by_size", {"x": np.arange(5.0), "begin": (2,), "size": (-1,)}, [2, 3, 4]),
        ("pad", {"x": np.ones(2), "pad": (1, 2), "constant_val": 9.0}, [9, 1, 1, 9, 9]),
        ("gather", {"x": np.array([10.0, 20, 30]), "indices": np.array([2, 0])}, [30, 10]),
        ("upsample_nearest_neighbor", {"x": np.array([[[[1.0, 2]]]]), "scale_factor_height": 2}, [[[[1, 2], [1, 2]]]]),
        ("concat", {"values": (np.ones(1), np.zeros(2)), "axis": 0}, [1, 0, 0]),
        ("select", {"cond": np.array([True, False]), "a": np.ones(2), "b": np.zeros(2)}, [1, 0]),
        ("clip", {"x": np.array([-5.0, 5]), "alpha": -1.0, "beta": 2.0}, [-1, 2]),
        ("sigmoid_hard", {"x": np.array([-9.0, 0, 9]), "alpha": 0.2, "beta": 0.5}, [0, 0.5, 1]),
    ],
)  # fmt: skip
def test_operations_with_known_results(name: str, v: dict, expected: list) -> None:
    np.testing.assert_allclose(mil.OPERATIONS[name](v), expected, atol=1e-6)


def test_splitting_gives_every_part() -> None:
    first, second = mil.split({"x": np.arange(5.0), "split_sizes": (2, 3), "axis": 0})
    assert (first.tolist(), second.tolist()) == ([0, 1], [2, 3, 4])
    assert [part.tolist() for part in mil.split({"x": np.arange(4.0), "num_splits": 2, "axis": 0})] == [[0, 1], [2, 3]]


def test_attention_is_an_average_weighted_by_likeness() -> None:
    key = np.eye(2, dtype=np.float32)[None] * 100
    v = {"query": key, "key": key, "value": np.array([[[1.0], [2.0]]])}
    np.testing.assert_allclose(mil.scaled_dot_product_attention(v).ravel(), [1, 2], atol=1e-6)
