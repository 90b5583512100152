"""The pure rules: manifests, schemas, versions, sanity vectors, quantisation, steps."""

import json
import subprocess
import sys

import numpy as np
import pytest
from aerogram_sdk import DeviceProfile, SignatureSchema, errors
from aerogram_sdk.manifest import Manifest, TensorSpec, canonical_bytes
from aerogram_sdk.profile import leading_version
from aerogram_sdk.runtimes import dequantise, quantise
from aerogram_sdk.sanity import SanityVectors, encode_tensor
from aerogram_sdk.selector import Source, Step, next_step, running_order
from aerogram_sdk.store import Installed, ModelRecord, State
from aerogram_sdk.versions import older
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.conftest import SDK

FILE = {"length": 1, "sha256": "0" * 64}


def signed(**changes):
    return {
        "_type": "aerogram-manifest",
        "spec_version": "1",
        "version": 7,
        "expires": "2030-01-31T12:00:00Z",
        "application": "demo",
        "channel": "production",
        "model": "digits",
        "model_version": 4,
        "variant": "v",
        "release_counter": 4,
        "directive": "install",
        "runtime": "numpy",
        "entry": "model.json",
        "files": {"model.json": FILE},
        **changes,
    }


def with_files(*paths):
    return signed(files=dict.fromkeys(paths, FILE) | {"model.json": FILE})


# -- manifest


@pytest.mark.parametrize("path", ["a", "a/b.tflite", "m.mlpackage/Data/weight.bin", "_x/-y", "a..b"])
def test_paths_that_may_be_unpacked(path):
    assert path in Manifest.from_signed(with_files(path)).files


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a\\b", "c:a", "a\n", "a\0", "ä", "x" * 256]
)
def test_paths_that_may_not(path):
    with pytest.raises(errors.ManifestMalformed):
        Manifest.from_signed(with_files(path))


@pytest.mark.parametrize("paths", [("A", "a"), ("a", "a/b"), ("a", "a/b/c"), ("x/A/y", "x/a")], ids=str)
def test_paths_that_collide(paths):
    with pytest.raises(errors.ManifestMalformed, match="colliding"):
        Manifest.from_signed(with_files(*paths))


@given(st.text(max_size=30))
def test_no_path_leaves_its_folder(tmp_path_factory, path):
    try:
        files = Manifest.from_signed(with_files(path)).files
    except errors.ManifestMalformed:
        return
    folder = tmp_path_factory.getbasetemp()
    assert all((folder / name).resolve().is_relative_to(folder) and (folder / name) != folder for name in files)


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"model.json": FILE | {"length": -1}}},
        {"files": {"model.json": FILE | {"length": True}}},
        {"files": {"model.json": FILE | {"sha256": "F" * 64}}},
        {"files": {"model.json": FILE | {"target": "models/digits/5/v/model.json"}}},
        {"files": {"model.json": 3}},
        {"files": []},
        {"model_version": None},
        {"signature_schema": {"inputs": [{"name": "a", "shape": ["1"], "dtype": "int8"}], "outputs": []}},
    ],
    ids=str,
)
def test_members_of_another_kind(change):
    with pytest.raises(errors.ManifestMalformed):
        Manifest.from_signed(signed(**change))


def test_use_embedded_needs_nothing_else():
    document = signed(directive="use_embedded", model_version=None, variant=None, files={}, entry="")
    assert Manifest.from_signed(document).files == {}


def test_bundle_is_named_by_what_would_run():
    bundle = Manifest.from_signed(signed()).bundle_id
    for change in ({"version": 8}, {"expires": "2031-01-31T12:00:00Z"}, {"lineage": {"a": 1}}, {"unknown": 1}):
        assert Manifest.from_signed(signed(**change)).bundle_id == bundle
    for change in ({"model_version": 5}, {"variant": "w"}, {"files": {"model.json": FILE | {"length": 2}}}):
        assert Manifest.from_signed(signed(**change)).bundle_id != bundle


def test_delegate_order_of_the_devices_class():
    classes = {"mid": {"delegate_order": ["gpu", "xnnpack"]}, "low": {"delegate_order": ["xnnpack"]}}
    manifest = Manifest.from_signed(signed(device_classes=classes))
    assert manifest.delegate_order("mid") == ("gpu", "xnnpack")
    assert manifest.delegate_order("unknown") == ()
    assert Manifest.from_signed(signed(device_classes={"mid": classes["mid"]})).delegate_order("") == ("gpu", "xnnpack")


@pytest.mark.parametrize("value", [1.5, float("nan"), "\ud800"], ids=repr)
def test_what_canonical_json_cannot_express(value):
    with pytest.raises(errors.ManifestMalformed):
        canonical_bytes({"a": value})


# -- schemas and versions


@pytest.mark.parametrize(
    ("offered", "wanted", "serves"),
    [
        ("float32", "float32", True),
        ("float16", "float32", True),
        ("int8", "float32", True),
        ("int32", "float32", False),
        ("float32", "int8", False),
        ("int64", "int64", True),
    ],
)
def test_types_that_serve(offered, wanted, serves):
    assert TensorSpec("a", (1, -1), offered).serves(TensorSpec("a", (1, 3), wanted)) is serves


def test_names_may_come_in_any_order():
    one, two = TensorSpec("a", (1,), "int8"), TensorSpec("b", (2,), "int8")
    assert SignatureSchema((one, two), ()).serves(SignatureSchema((two, one), ()))
    assert not SignatureSchema((one, two), ()).serves(SignatureSchema((one,), ()))


@pytest.mark.parametrize(
    ("version", "minimum", "expected"),
    [
        ("2.9", "2.10", True),
        ("2.10", "2.9", False),
        ("2", "2.0.0", False),
        ("", "", False),
        ("", "1", True),
        ("9", "", False),
    ],
)
def test_older(version, minimum, expected):
    assert older(version, minimum) is expected


def test_leading_version():
    assert [leading_version(text) for text in ("6.1.0-18-amd64", "14", "beta", "")] == ["6.1.0", "14", "", ""]


def test_profile_sends_only_what_is_known():
    profile = DeviceProfile(os="android", ram_mb=4096, accelerators=frozenset({"npu", "gpu"}))
    assert profile.to_query() == {"os": "android", "ram_mb": "4096", "accelerators": "gpu,npu"}
    assert profile.to_json() == {"os": "android", "ram_mb": 4096, "accelerators": ["gpu", "npu"]}


# -- steps


def installed(version, *, has_run=True):
    return Installed(f"bundle {version}", version, "v", has_run=has_run)


@pytest.mark.parametrize(
    ("directive", "record", "step"),
    [
        ("use_embedded", ModelRecord(directive="use_embedded"), Step.NOTHING),
        ("use_embedded", ModelRecord(), Step.USE_EMBEDDED),
        ("install", ModelRecord(), Step.INSTALL),
        ("install", ModelRecord(active=installed(3)), Step.INSTALL),
    ],
    ids=["aside already", "to set aside", "nothing installed", "another installed"],
)
def test_next_step(directive, record, step):
    assert next_step(Manifest.from_signed(signed(directive=directive)), record) is step


def test_next_step_for_the_active_bundle():
    manifest = Manifest.from_signed(signed())
    record = ModelRecord(active=Installed(manifest.bundle_id, 4, "v"))
    assert next_step(manifest, record) is Step.NOTHING
    record.directive = "use_embedded"
    assert next_step(manifest, record) is Step.INSTALL


def test_running_order():
    record = ModelRecord(active=installed(2), previous=installed(1))
    order = [Source.ACTIVE, Source.PREVIOUS, Source.EMBEDDED]
    assert [source for source, _ in running_order(record, has_embedded=True)] == order
    record.directive = "use_embedded"
    assert running_order(record, has_embedded=True) == [(Source.EMBEDDED, None)]
    assert running_order(record, has_embedded=False) == []


@pytest.mark.parametrize(
    ("active", "previous", "chosen", "kept"),
    [
        (None, None, 1, None),
        (installed(1), None, 2, 1),
        (installed(2), installed(1), 3, 2),
        (installed(2, has_run=False), installed(1), 3, 1),
        (installed(2, has_run=False), None, 3, 2),
        (installed(2), installed(1), 1, 2),
        (installed(2, has_run=False), installed(1), 1, None),
        (installed(2), installed(1), 2, 1),
    ],
)
def test_switch_keeps_the_last_that_ran(active, previous, chosen, kept):
    record = ModelRecord(active=active, previous=previous)
    record.switch_to(installed(chosen, has_run=False))
    assert record.active.version == chosen
    assert (record.previous and record.previous.version) == kept


def test_failures_are_counted_per_environment():
    state = State()
    assert [state.count_failure("b", "1.0") for _ in range(2)] == [1, 2]
    assert state.failure_count("b", "1.1") == 0
    assert state.count_failure("b", "1.1") == 1


# -- sanity vectors


class Doubling:
    """Doubles its input, with `error` added."""

    def __init__(self, error=0.0):
        self.error = error

    def run(self, inputs):
        return {"y": inputs["x"] * 2 + np.float32(self.error)}

    def close(self):
        pass


def vectors(x, y, tolerance="0.01"):
    sample = {"inputs": {"x": encode_tensor(x)}, "outputs": {"y": encode_tensor(y)}}
    return SanityVectors.from_json(json.dumps({"tolerance": tolerance, "samples": [sample]}).encode(), tolerance)


X = np.array([[0.25, -0.5]], dtype=np.float32)


@pytest.mark.parametrize(
    ("scale", "error", "passes"), [(1, 0.009, True), (1, 0.011, False), (100, 0.9, True), (100, 1.1, False)]
)
def test_tolerance_is_relative_above_one(scale, error, passes):
    check = vectors(X * scale, X * scale * 2)
    if passes:
        check.check(Doubling(error))
    else:
        with pytest.raises(errors.SanityMismatch):
            check.check(Doubling(error))


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_what_is_no_number_never_passes(error):
    with pytest.raises(errors.SanityMismatch):
        vectors(X, X * 2, tolerance="1e9").check(Doubling(error))


def test_other_shape_or_name():
    with pytest.raises(errors.SanityMismatch, match="shape"):
        vectors(X, np.zeros((1, 3), np.float32)).check(Doubling())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"samples": []}', b'{"tolerance": "x", "samples": []}', b'{"tolerance": "0", "samples": []}']
)
def test_vectors_that_cannot_be_read(data):
    with pytest.raises(errors.SanityInvalid):
        SanityVectors.from_json(data, "0.01")


@pytest.mark.parametrize("change", [{"dtype": "object"}, {"shape": [3]}, {"data": "%"}, {"dtype": "nothing"}], ids=str)
def test_tensors_that_cannot_be_read(change):
    document = {"tolerance": "0", "samples": [{"inputs": {"x": encode_tensor(X) | change}, "outputs": {}}]}
    with pytest.raises(errors.SanityInvalid):
        SanityVectors.from_json(json.dumps(document).encode(), "0")


# -- quantisation


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20),
    st.floats(1e-3, 10),
    st.integers(-128, 127),
)
def test_quantising_loses_at_most_half_a_step(values, scale, zero_point):
    array = np.array(values, dtype=np.float32)
    back = dequantise(quantise(array, scale, zero_point, np.dtype(np.int8)), scale, zero_point)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    assert np.all(np.abs(back - np.clip(array, low, high)) <= scale * 0.501 + 1e-3)


# -- the package


CONCRETE = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and "code" in vars(error) and error is not errors.AerogramError
]


@pytest.mark.parametrize("error", CONCRETE, ids=lambda error: error.__name__)
def test_error_is_documented_with_its_stage(error):
    assert f"| `{error.code}` | {error.stage} |" in (SDK / "README.md").read_text()


def test_codes_are_their_own():
    pairs = [(error.code, error.stage) for error in CONCRETE]
    assert len(pairs) == len(set(pairs))


def test_imports_no_server_code():
    program = (
        "import sys, aerogram_sdk\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(roots & {'django', 'registry', 'experiments', 'distribution', 'deploy', 'ai_edge_litert'}))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=SDK, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
