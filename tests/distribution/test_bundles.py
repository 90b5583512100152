"""Bundles from their registration to phones: what is signed, patched, withdrawn, and offered as one zip."""

import json
import zipfile

import pytest

from distribution import errors, services
from distribution.manifest import Manifest, ManifestError
from distribution.patches import _wanted_pairs
from distribution.trust.roles import TARGETS
from registry import inspection
from registry import services as registry_services
from registry.packages import package_digest
from registry.services.bundles import ExtraFile
from tests.factories import NOW
from tests.registry.fake_conversions import FOUND, FakeRunner, Queue, upload
from tests.sdk.fake_runtime import IMAGE, model_file, sanity_file

pytestmark = pytest.mark.django_db(transaction=True)
FLOAT = "tflite-float32"
MANIFEST = {"itemInfoEntries": {"5F2C": {"path": "m/model.mlmodel"}}, "rootModelIdentifier": "5F2C"}
PACKAGE = {
    "model.mlpackage/Manifest.json": json.dumps(MANIFEST).encode(),
    "model.mlpackage/Data/m/model.mlmodel": b"specification",
    "model.mlpackage/Data/m/weights/weight.bin": bytes(5000),
}


class Registry:
    """Registers and converts versions of the world's application; conversions make what they are told to."""

    def __init__(self, world, runner, queue) -> None:
        self.world, self.runner, self.queue = world, runner, queue

    def version(self, model, factor, recipe=FLOAT, made=None, **said):
        scored = {"model.tflite": model_file(factor, padding=5000), "sanity.json": sanity_file(factor)}
        self.runner.makes[recipe] = made or scored
        version = registry_services.register_version(
            application=self.world.application,
            model_slug=model,
            source=upload(self.world.application, f"PK {model} {factor}".encode()),
            recipes=[recipe],
            actor="ada",
            now=NOW,
            **said,
        )
        self.queue.drain()
        return version

    def bundle(self, factor, decoder, graph=b"node {}"):
        extra = ExtraFile("graph", "graph.binarypb", upload(self.world.application, graph, "graph.binarypb"))
        return self.version("captions", factor, files=[extra], parts={"decoder": decoder}, labels=["cat", "dog"])

    def release(self, version):
        services.publish(
            channel=self.world.application.channels.get(), version=version, actor="ada", now=self.world.clock()
        )
        self.world.run()


@pytest.fixture
def registry(world, monkeypatch):
    monkeypatch.setattr(inspection, "inspect_source", lambda _path, _name: FOUND)
    return Registry(world, FakeRunner(monkeypatch), Queue(monkeypatch))


def targets(world):
    tree = world.tree
    return tree.targets(TARGETS, tree.current().role_versions[TARGETS]).signed.targets


def manifest(phone):
    (outcome,) = phone.update(["captions"])
    assert outcome.error is None
    record = phone._store.state().model("captions")
    return outcome.version, Manifest.from_signed(phone._store.manifest_of(record.active.bundle).document)


def scores(phone):
    with phone.open("captions") as model:
        both = model.run({"image": IMAGE}), model.part("decoder").run({"image": IMAGE})
        return [float(output["score"][0, 0]) for output in both]


@pytest.fixture
def phone(world, phones):
    return phones.phone("ann", world.root.to_bytes())


def test_an_encoder_with_its_decoder_reaches_a_phone(world, phones, registry, phone):
    decoder = registry.version("decoder", 5)
    registry.release(registry.bundle(2, decoder))
    phones.refresh()
    version, signed = manifest(phone)
    assert (version, scores(phone)) == (1, [6.0, 15.0])
    with phone.open("captions") as model:
        assert model.labels() == ["cat", "dog"]
        assert [path.read_bytes() for path in model.files("graph")] == [b"node {}"]
    part = signed.parts["decoder"]
    assert (part.entry, part.sanity.path) == ("decoder/model.tflite", "decoder/sanity.json")
    assert (signed.entry, signed.sanity.path) == ("model.tflite", "sanity.json")
    told = {name: part.lineage[name] for name in ("model", "model_version", "recipe")}
    assert told == {"model": "decoder", "model_version": 1, "recipe": FLOAT}
    assert part.lineage["source_sha256"] == decoder.source.sha256
    ours = {path: file for path, file in targets(world).items() if path.startswith("models/captions/")}
    assert sorted(ours) == [
        f"models/captions/1/{FLOAT}/{path}"
        for path in (
            "decoder/model.tflite",
            "decoder/sanity.json",
            "graph.binarypb",
            "labels.txt",
            "model.tflite",
            "sanity.json",
        )
    ]
    assert {file.custom["release_counter"] for file in ours.values()} == {1}
    for path, file in signed.files.items():
        assert ours[file.target].hashes["sha256"] == file.sha256, path


def test_patches_are_made_of_each_file(world, registry):
    decoders = [registry.version("decoder", factor) for factor in (5, 6)]
    bundles = [registry.bundle(factor, decoder) for factor, decoder in zip((2, 3), decoders, strict=True)]
    for bundle in bundles:
        registry.release(bundle)
    digests = [
        {file.artifact.sha256: file.path for file in bundle.variants.get().files.select_related("artifact")}
        for bundle in bundles
    ]
    old, new = digests
    pairs = [(new.get(target.sha256), old.get(base.sha256)) for target, base in _wanted_pairs(world.application)]
    assert sorted(pair for pair in pairs if all(pair)) == [
        ("decoder/model.tflite", "decoder/model.tflite"),
        ("model.tflite", "model.tflite"),
    ]


def test_yanking_a_part_withdraws_its_bundles(world, phones, registry, phone):
    good, bad = registry.version("decoder", 5), registry.version("decoder", 6)
    registry.release(registry.bundle(2, good))
    registry.release(registry.bundle(3, bad))
    phones.refresh()
    assert manifest(phone)[0] == 2
    registry_services.yank_version(version=bad, reason="wrong", actor="ada", now=world.clock())
    world.run()
    phones.refresh()
    assert manifest(phone)[0] == 1
    assert scores(phone) == [6.0, 15.0]
    assert not [path for path in targets(world) if path.startswith("models/captions/2/")]
    third = registry.bundle(4, good)
    registry_services.yank_version(version=good, reason="wrong, too", actor="ada", now=world.clock())
    with pytest.raises(errors.PartYanked, match="decoder:1"):
        registry.release(third)


def test_a_package_file_by_file_with_its_zip_beside_it(world, phones, registry):
    world.application.device_classes.update(variants=["coreml-fp16"])
    registry.release(registry.version("captions", 2, "coreml-fp16", made=PACKAGE))
    phones.refresh()
    poll = phones.http.get(
        "http://device.plane/v1/apps/demo/channels/production/manifests/captions?os=ios&runtime=coreml"
    )
    signed = Manifest.from_signed(poll.json()["models"]["captions"]["manifest"]["signed"])
    assert set(signed.files) == set(PACKAGE)
    package = signed.packages["model.mlpackage"]
    inner = {path.removeprefix("model.mlpackage/"): file.sha256 for path, file in signed.files.items()}
    assert package.tree_sha256 == package_digest(inner, PACKAGE["model.mlpackage/Manifest.json"])
    stock = phones.stock("stock", world.root.to_bytes())
    found = stock.get_targetinfo(package.archive.target)
    assert (found.length, found.hashes["sha256"]) == (package.archive.length, package.archive.sha256)
    with zipfile.ZipFile(stock.download_target(found)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == PACKAGE


# -- the manifest itself


def signed_bundle(**changes):
    file = {"length": 1, "sha256": "0" * 64, "role": "model", "media_type": "x/y", "target": "t"}
    schema = {"inputs": [], "outputs": [], "labels_file": None}
    part = {"entry": "decoder/model.tflite", "signature_schema": schema, "sanity": None, "lineage": {}}
    document = {
        "_type": "aerogram-manifest",
        "spec_version": "1",
        "version": 1,
        "expires": "2030-01-01T00:00:00Z",
        "application": "demo",
        "channel": "production",
        "model": "captions",
        "release_counter": 1,
        "directive": "install",
        "model_version": 1,
        "variant": FLOAT,
        "device_classes": {},
        "runtime": "litert",
        "entry": "model.tflite",
        "signature_schema": schema,
        "sanity": None,
        "policy": {},
        "lineage": {},
        "files": dict.fromkeys(("model.tflite", "decoder/model.tflite", "p.mlpackage/Manifest.json"), file),
        "parts": {"decoder": part},
        "packages": {"p.mlpackage": {"tree_sha256": "0" * 64, "archive": file}},
    }
    return document | changes, part


def test_what_is_signed_is_read_back():
    document, _ = signed_bundle()
    read = Manifest.from_signed(document)
    assert Manifest.from_signed(read.to_signed()) == read
    without, _ = signed_bundle(parts={}, packages={})
    assert not {"parts", "packages"} & set(Manifest.from_signed(without).to_signed())


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": {"Decoder": {}}},
        {"parts": {"encoder": {}}},
        {"parts": {"decoder": {"entry": "model.tflite"}}},
        {"parts": {"decoder": {"entry": "decoder/absent"}}},
        {"parts": {"decoder": {"sanity": {"path": "decoder/absent", "tolerance": "1"}}}},
        {"parts": {"decoder": {"signature_schema": {"inputs": [], "outputs": [], "labels_file": "absent"}}}},
        {"packages": {"q.mlpackage": {}}},
        {"packages": {"model.tflite": {}}},
        {"packages": {"p.mlpackage": {"tree_sha256": "0"}}},
    ],
)
def test_manifests_that_contradict_themselves(wrong):
    document, part = signed_bundle()
    package = document["packages"]["p.mlpackage"]
    for member, plain in (("parts", part), ("packages", package)):
        if member in wrong:
            document[member] = {name: plain | change for name, change in wrong[member].items()}
    with pytest.raises(ManifestError):
        Manifest.from_signed(document)
