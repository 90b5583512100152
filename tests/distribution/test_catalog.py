import contextlib
import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.catalog import (
    Catalog,
    CatalogArm,
    CatalogError,
    CatalogExperiment,
    CatalogModel,
    CatalogVariant,
    Holdback,
    Layer,
    Overrides,
    Reference,
    override_key,
)
from experiments.bucketing import in_range
from registry.device_classes import DeviceClass, Selector
from registry.json_members import DocumentError

VECTORS = Path(__file__).parents[2] / "sdk_stubs/vectors"
DOCUMENT = json.loads((VECTORS / "decisions.json").read_text())["catalog"]
CASES = json.loads((VECTORS / "catalogs.json").read_text())

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
references = st.builds(
    Reference, path=names.map(lambda name: f"manifests/{name}.json"), sha256=digests, length=st.integers(0, 10**6)
)
variants = st.builds(CatalogVariant, name=names, runtime=names, manifest=references)
salts = st.text("abc:-_ 0123", min_size=1, max_size=20)


@st.composite
def bucket_ranges(draw):
    return tuple(sorted((draw(st.integers(0, 10_000)), draw(st.integers(0, 10_000)))))


@st.composite
def split_ranges(draw, count):
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=2 * count, max_size=2 * count)))
    return [(cuts[2 * index], cuts[2 * index + 1]) for index in range(count)]


@st.composite
def experiments(draw, versions, span):
    spans = draw(split_ranges(2))
    version = st.none() | st.sampled_from(versions)
    return CatalogExperiment(
        slug=draw(names),
        kind=draw(st.sampled_from(["rollout", "ab", "aa", "holdback"])),
        state=draw(st.sampled_from(["running", "halted"])),
        phase=draw(st.integers(1, 9)),
        layer=Layer("layer", span),
        arm_salt=draw(salts),
        arms=(
            CatalogArm("treatment", draw(version), control=False, ranges=(spans[0],)),
            CatalogArm("control", draw(version), control=draw(st.booleans()), ranges=(spans[1],)),
        ),
    )


@st.composite
def models(draw):
    versions = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
    held = st.builds(Holdback, salt=salts, range=bucket_ranges(), version=st.sampled_from(versions))
    units = st.dictionaries(digests, st.sampled_from(versions), max_size=2)
    return CatalogModel(
        manifest_version=draw(st.integers(1, 99)),
        current=draw(st.none() | st.sampled_from(versions)),
        versions={version: tuple(draw(st.lists(variants, max_size=3))) for version in versions},
        kill_switch=draw(st.none() | references),
        no_unit=draw(st.sampled_from(["current", "none"])),
        floors=tuple(sorted(draw(st.sets(st.sampled_from(versions))))),
        holdback=draw(st.none() | held),
        overrides=Overrides(draw(salts), draw(units)),
        experiments=tuple(draw(experiments(versions, span)) for span in draw(split_ranges(2))),
    )


@st.composite
def catalogs(draw):
    preferred = st.lists(names, max_size=3).map(tuple)
    return Catalog(
        application=draw(names),
        channel=draw(names),
        poll_after_seconds=draw(st.integers(1, 86_400)),
        device_classes=(
            DeviceClass("android", Selector(os=("android",)), draw(preferred)),
            DeviceClass("fallback", Selector(), draw(preferred)),
        ),
        models=draw(st.dictionaries(names, models(), max_size=2)),
    )


@given(catalogs())
def test_a_catalog_survives_json(catalog):
    assert Catalog.from_json(json.loads(json.dumps(catalog.to_json()))) == catalog


@given(catalogs())
def test_a_catalog_has_no_floats(catalog):
    def refuse(text):
        raise AssertionError(text)

    json.loads(json.dumps(catalog.to_json()), parse_float=refuse)


def test_the_document_of_the_vectors_is_reproduced_to_the_letter():
    assert Catalog.from_json(DOCUMENT).to_json() == DOCUMENT


@given(models())
def test_a_layer_finds_the_one_experiment_whose_range_holds_the_bucket(model):
    spans = [experiment.layer.range for experiment in model.experiments]
    for position in {edge + step for span in spans for edge in span for step in (-1, 0)} | {0, 9_999}:
        holders = [each for each in enumerate(model.experiments) if in_range(position, each[1].layer.range)]
        found = [layer.around(position) for layer in model.layers]
        assert [each for each in found if each is not None] == holders


def test_references_name_every_manifest_once():
    catalog = Catalog.from_json(DOCUMENT)
    paths = [reference.path for reference in catalog.references()]
    assert len(paths) == len(set(paths)) == 9 * 10 + 1


def test_the_key_of_an_override_hides_the_unit():
    # printf 'o:unit' | sha256sum
    assert override_key("o", "unit") == "1dfb3fb4000be30f916ca78c32c13532ef9f26e94b4ed15c5daadae59791686e"


def edited(path, value):
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


RAMP = ("models", "ramped", "experiments", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("_type",), "x", "catalog._type: expected one of aerogram-catalog"),
        (("spec_version",), "2", "catalog.spec_version: expected one of 1"),
        (("application",), "../x", "catalog.application: expected a string like"),
        (("poll_after_seconds",), 1.5, "poll_after_seconds: expected an integer"),
        (("poll_after_seconds",), True, "poll_after_seconds: expected an integer"),
        (
            ("models", "plain", "current"),
            99,
            r"plain.current: expected a version listed in versions \(3, 4, 5\), got 99",
        ),
        (("models", "plain", "floors"), [7], "plain.floors: expected a version listed"),
        (("models", "ramped", "overrides", "units"), {"0" * 64: 9}, "ramped.overrides: expected a version listed"),
        (("models",), {"../x": DOCUMENT["models"]["plain"]}, "catalog.models: expected names like .*, got '../x'"),
        (("models", "plain", "no_unit"), "x", "no_unit: expected one of current, none"),
        (("models", "ramped", "holdback", "version"), 9, "holdback: expected a version listed"),
        (("models", "ramped", "holdback", "range"), [5, 2], "range: expected bucket ranges"),
        (("models", "ramped", "holdback", "range"), [0, 10_001], "range: expected bucket ranges"),
        (("models", "ramped", "holdback", "salt"), 'a"b', "salt: expected a string like"),
        (("models", "ramped", "overrides", "units"), {"unit": 4}, "units: expected keys of 64 hex digits"),
        ((*RAMP, "arms", 0, "version"), 9, "ramp.treatment: expected a version listed"),
        ((*RAMP, "arms", 0, "control"), True, "arms: expected at most one control"),
        ((*RAMP, "arms", 0, "ranges"), [[0, 8000]], "arms: expected bucket ranges that do not overlap"),
        ((*RAMP, "state"), "paused", "state: expected one of running, halted"),
        ((*RAMP, "kind"), "x", "kind: expected one of rollout"),
        (
            ("models", "compared", "experiments", 1, "layer", "range"),
            [5999, 9000],
            "experiments: expected bucket ranges",
        ),
        (("models", "plain", "versions"), {"04": {}}, "versions: expected keys that are positive integers"),
        (("models", "plain", "versions", "4", "variants", 0, "manifest", "path"), "a/../b", "path: expected a string"),
        (("models", "plain", "versions", "4", "variants", 0, "manifest", "sha256"), "AB", "sha256: expected a string"),
        (("device_classes", 1, "name"), "ios-new", "device_classes: expected unique names"),
    ],
)
def test_a_malformed_catalog_is_refused_with_its_place(path, value, message):
    with pytest.raises(CatalogError, match=message):
        Catalog.from_json(edited(path, value))


@pytest.mark.parametrize(
    ("path", "most", "more"),
    [
        (("poll_after_seconds",), 30 * 86_400, 30 * 86_400 + 1),
        (("models", "ramped", "overrides", "salt"), "s" * 200, "s" * 201),
        (("models", "plain", "versions", "4", "variants", 0, "min_runtime_version"), "1" * 64, "1" * 65),
    ],
)
def test_what_may_be_large_has_a_bound(path, most, more):
    Catalog.from_json(edited(path, most))
    with pytest.raises(CatalogError, match=f"{path[-1]}: expected (an integer from 1 to|a string of at most)"):
        Catalog.from_json(edited(path, more))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data(), json_values)
def test_any_damage_is_either_refused_properly_or_harmless(data, value):
    """Whatever replaces a member anywhere, the reader raises its own error or returns a catalog, nothing else."""
    document = copy.deepcopy(DOCUMENT)
    inner = document
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or data.draw(st.booleans()):
            inner[key] = value
            break
        inner = inner[key]
    with contextlib.suppress(DocumentError):
        Catalog.from_json(document)


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["name"])
def test_every_implementation_refuses(case):
    with pytest.raises(DocumentError):
        Catalog.from_json(case["catalog"])


@pytest.mark.parametrize("case", CASES["accepted"], ids=lambda case: case["name"])
def test_every_implementation_accepts(case):
    assert Catalog.from_json(case["catalog"]).application == "demo"
