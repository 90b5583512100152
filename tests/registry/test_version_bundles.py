"""Versions with extra files and parts, through their conversions to the variants that hold all of it."""

import io
import json
import zipfile

import pytest

from registry import errors, services
from registry.blob_store import blob_store
from registry.models import AuditEntry, JobState, Variant
from registry.services.bundles import ExtraFile, find_part
from registry.services.conversions import bundling
from tests import factories
from tests.factories import NOW
from tests.registry.fake_conversions import register, states, upload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("services", "own_store", "inspected", "runner"),
]
GRAPH = b'node { calculator: "InferenceCalculator" }'


def extra(app, role="graph", path="graph.binarypb", content=GRAPH):
    return ExtraFile(role, path, upload(app, content, path.rpartition("/")[2]))


def converted(app, queue, model="digits", recipes=("tflite-float32",), **said):
    said.setdefault("content", f"PK {model}".encode())
    source = upload(app, said.pop("content"))
    version = services.register_version(
        application=app, model_slug=model, source=source, recipes=list(recipes), actor="ada", now=NOW, **said
    )
    queue.drain()
    return version


def held(variant):
    return {file.path: (file.role, file.artifact.sha256) for file in variant.files.select_related("artifact")}


def content_of(variant, path):
    with blob_store().open(variant.files.get(path=path).artifact.sha256) as stream:
        return stream.read()


def package(identifier, weights=b"weights"):
    manifest = {"itemInfoEntries": {identifier: {"path": "m/model.mlmodel"}}, "rootModelIdentifier": identifier}
    inner = {"Manifest.json": json.dumps(manifest).encode(), "Data/m/model.mlmodel": b"spec", "Data/m/w.bin": weights}
    return {f"model.mlpackage/{path}": content for path, content in inner.items()}


# -- extra files


def test_every_variant_holds_the_extra_files(app, queue):
    recipes = ["tflite-float32", "coreml-fp16"]
    files = [extra(app), extra(app, "vocabulary", "words/en.txt", b"a\nb\n")]
    version = converted(app, queue, recipes=recipes, files=files, labels=["zero", "one"])
    for variant in version.variants.all():
        assert held(variant)["graph.binarypb"] == ("graph", files[0].upload.artifact.sha256)
        assert {path: role for path, (role, _) in held(variant).items()} == {
            variant.entry: "model",
            "graph.binarypb": "graph",
            "words/en.txt": "vocabulary",
            "labels.txt": "labels",
        }
    told = AuditEntry.objects.get(verb="register_version").after
    assert told["files"]["graph.binarypb"] == files[0].upload.artifact.sha256


def test_a_file_changes_the_digest_and_no_conversion(app, queue, runner):
    first = converted(app, queue, files=[extra(app)]).variants.get()
    ran = list(runner.ran)
    second = converted(app, queue, files=[extra(app, content=GRAPH + b" ")]).variants.get()
    assert runner.ran == ran, "reused"
    assert first.tree_digest != second.tree_digest
    assert first.size_bytes == second.size_bytes


@pytest.mark.parametrize(
    ("role", "path", "content", "word"),
    [
        ("graph", "../graph.pbtxt", GRAPH, "relative path"),
        ("data", "libx.so", b"x", "no programs"),
        ("data", "x.bin", b"\x7fELF" + bytes(64), "no programs"),
        ("graph", "face.task", b"PK\x03\x04" + bytes(64), "no archives"),
        ("data", "decoder.bin", b"\x1c\0\0\0TFL3", "as a part"),
        ("model", "decoder.bin", b"x", "role among"),
        ("data", "model.tflite", b"x", "beside what conversions make"),
    ],
)
def test_files_that_are_refused(app, queue, role, path, content, word):
    with pytest.raises(errors.BundleRefused, match=word) as refused:
        converted(app, queue, files=[ExtraFile(role, path, upload(app, content, "x.bin"))])
    assert refused.value.field == "files"
    assert not app.registered_models.exists()


def test_files_that_collide(app, queue):
    with pytest.raises(errors.BundleRefused, match="every file system"):
        converted(app, queue, files=[extra(app, path="a.txt"), extra(app, path="A.txt", content=b"other")])


def test_an_upload_that_is_an_extra_file_stays(app, queue):
    file = extra(app)
    converted(app, queue, files=[file])
    with pytest.raises(errors.UploadInUse):
        services.delete_upload(upload=file.upload, actor="ada", now=NOW)


# -- parts


@pytest.fixture
def decoder(app, queue):
    return converted(app, queue, "decoder", ["tflite-float32", "tflite-float16"], labels=["a", "b"])


def test_an_encoder_with_its_decoder(app, queue, decoder):
    version = converted(app, queue, "encoder", ["tflite-float32", "tflite-float16"], parts={"decoder": decoder})
    assert states(version)["tflite-float16"] == JobState.SUCCEEDED
    for variant in version.variants.all():
        theirs = decoder.variants.get(name=variant.name)
        assert {path: found for path, found in held(variant).items() if path.startswith("decoder/")} == {
            f"decoder/{path}": found for path, found in held(theirs).items()
        }
        assert variant.parts.get().part == theirs
        assert variant.size_bytes == len(variant.name) + theirs.size_bytes
    assert AuditEntry.objects.filter(verb="register_version").latest("pk").after["parts"] == {"decoder": "decoder:1"}


def test_a_recipe_without_a_part_makes_no_half_bundle(app, queue, decoder, runner):
    recipes = ["tflite-float32", "coreml-fp16"]
    version = converted(app, queue, "encoder", recipes, parts={"decoder": decoder})
    assert list(version.variants.values_list("name", flat=True)) == ["tflite-float32"]
    job = version.jobs.get(recipe="coreml-fp16")
    assert job.state == JobState.NOT_APPLICABLE
    assert "the part decoder, decoder:1, to have a variant coreml-fp16" in job.report["error"]["detail"]
    assert "coreml-fp16" not in runner.ran


@pytest.mark.parametrize(
    ("source_format", "variants", "recipe", "serves"),
    [
        ("tflite", ["tflite-as-is"], "tflite-full-int8", True),
        ("tflite", ["tflite-as-is", "tflite-float16"], "tflite-float16", True),
        ("tflite", ["tflite-as-is", "tflite-float16"], "tflite-full-int8", True),
        ("onnx", ["onnx-float32"], "ort-dynamic-int8", True),
        ("coreml", ["coreml-as-is"], "tflite-float32", False),
        ("keras", ["tflite-float16"], "tflite-float32", False),
    ],
)
def test_a_ready_part_serves_every_recipe_of_its_runtime(app, queue, source_format, variants, recipe, serves):
    part = factories.version(app, "decoder", source_format=source_format)
    for name in variants:
        factories.variant(part, name)
    version = converted(app, queue, "encoder", [recipe], parts={"decoder": part}, evaluation_set=upload(app))
    assert version.variants.exists() == serves
    if serves:
        chosen = version.variants.get().parts.get().part.name
        assert chosen == (recipe if recipe in variants else variants[0])


@pytest.mark.parametrize(
    ("own", "parts", "newest"),
    [("16", ["17"], "17"), ("16", ["15", ""], "16"), ("", ["9", "15"], "15"), ("", [""], "")],
)
def test_the_newest_runtime_of_all_counts(own, parts, newest):
    rows = {str(number): Variant(min_runtime_version=needs) for number, needs in enumerate(parts)}
    assert bundling._newest_runtime(own, rows) == newest


def test_parts_that_are_refused(app, queue, decoder):
    bundle = converted(app, queue, "encoder", parts={"decoder": decoder})
    with pytest.raises(errors.BundleRefused, match="without parts"):
        converted(app, queue, "other", parts={"encoder": bundle})
    with pytest.raises(errors.BundleRefused, match="another model's version"):
        converted(app, queue, "decoder", parts={"decoder": decoder})
    with pytest.raises(errors.BundleRefused, match="name of a part"):
        converted(app, queue, "other", parts={"De/coder": decoder})
    with pytest.raises(errors.BundleRefused, match="as a part, got decoder:9"):
        find_part(app, "decoder", 9)


def test_a_part_must_be_converted_first(app, queue):
    waiting = register(app, recipes=["tflite-float32"])
    with pytest.raises(errors.PartUnfinished, match="trace"):
        converted(app, queue, "encoder", parts={"decoder": waiting})
    services.cancel_version(version=waiting, actor="ada", now=NOW)
    with pytest.raises(errors.BundleRefused, match="with variants"):
        converted(app, queue, "encoder", parts={"decoder": waiting})


def test_a_yanked_part(app, queue, decoder):
    bundle = converted(app, queue, "encoder", parts={"decoder": decoder})
    services.yank_version(version=decoder, reason="wrong", actor="ada", now=NOW)
    decoder.refresh_from_db()
    assert not bundle.variants.with_parts_in_use().exists()
    assert decoder.variants.with_parts_in_use().count() == 2
    with pytest.raises(errors.VersionYanked, match="as part decoder"):
        converted(app, queue, "encoder", parts={"decoder": decoder})
    with pytest.raises(errors.VersionYanked, match="as part decoder"):
        services.rebuild_version(version=bundle, actor="ada", now=NOW)


def test_a_rebuild_holds_the_same(app, queue, decoder):
    first = converted(app, queue, "encoder", parts={"decoder": decoder}, files=[extra(app)])
    again = services.rebuild_version(version=first, actor="ada", now=NOW)
    queue.drain()
    assert again.variants.get().tree_digest == first.variants.get().tree_digest
    assert held(again.variants.get()) == held(first.variants.get())


def test_a_reproduction_builds_what_the_conversion_made(app, queue, decoder):
    version = converted(app, queue, "encoder", parts={"decoder": decoder}, files=[extra(app)])
    made = services.request_reproduction(variant=version.variants.get(), actor="ada", now=NOW)
    queue.drain()
    made.refresh_from_db()
    assert made.state == made.State.EQUAL
    assert [file["path"] for file in made.files] == ["model.tflite"]


def test_a_part_that_misses_its_own_gates_blocks_the_bundle(app, queue, decoder):
    version = converted(app, queue, "encoder", parts={"decoder": decoder})
    services.set_gates(model=decoder.model, gates={"max_bytes": 1}, actor="ada", now=NOW)
    (verdict,) = services.verdicts(version)
    assert [miss.subject for miss in verdict.uncovered] == ["part decoder"]
    services.override_gates(variant=version.variants.get(), reason="small enough", actor="ada", now=NOW)
    (verdict,) = services.verdicts(version)
    assert not verdict.is_blocked


# -- packages


def test_a_package_has_a_digest_and_a_zip(app, queue, runner):
    runner.makes["coreml-fp16"] = package("5F2C")
    variant = converted(app, queue, recipes=["coreml-fp16"]).variants.get()
    about = variant.packages["model.mlpackage"]
    assert about["archive"] == "model.mlpackage.zip"
    assert held(variant)["model.mlpackage.zip"][0] == "archive"
    with zipfile.ZipFile(io.BytesIO(content_of(variant, "model.mlpackage.zip"))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == package("5F2C")
    assert variant.size_bytes == sum(map(len, package("5F2C").values())), "the zip is not counted twice"


def test_identifiers_drawn_anew_leave_the_digests(app, queue, runner):
    variants = []
    for number, made in enumerate([package("5F2C"), package("91AA"), package("5F2C", b"Weights")]):
        runner.makes["coreml-fp16"] = made
        source = f"PK {number}".encode()
        variants.append(converted(app, queue, recipes=["coreml-fp16"], content=source).variants.get())
    first, saved_again, retrained = variants
    assert first.packages == saved_again.packages
    assert first.tree_digest == saved_again.tree_digest
    assert held(first) != held(saved_again), "each file is listed as it is"
    assert first.packages != retrained.packages
    assert first.tree_digest != retrained.tree_digest


def test_a_package_as_a_part(app, queue, runner):
    runner.makes["coreml-fp16"] = package("5F2C")
    decoder = converted(app, queue, "decoder", ["coreml-fp16"])
    runner.makes["coreml-fp16"] = package("91AA", b"other")
    variant = converted(app, queue, "encoder", ["coreml-fp16"], parts={"decoder": decoder}).variants.get()
    theirs = decoder.variants.get().packages["model.mlpackage"]
    assert variant.packages["decoder/model.mlpackage"] == {**theirs, "archive": "decoder/model.mlpackage.zip"}
    assert "decoder/model.mlpackage.zip" in held(variant)


@pytest.mark.parametrize("path", ["model.mlpackage/Data/a b.bin", "model.mlpackage/DATA/x.bin"])
def test_a_package_that_not_every_phone_can_unpack_is_no_variant(app, queue, runner, path):
    runner.makes["coreml-fp16"] = package("5F2C") | {path: b"1"}
    version = converted(app, queue, recipes=["coreml-fp16"])
    job = version.jobs.get(recipe="coreml-fp16")
    assert (job.state, job.report["error"]["code"]) == (JobState.FAILED, "bundle_refused")
    assert not version.variants.exists()
