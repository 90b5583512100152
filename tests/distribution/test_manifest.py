import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from securesystemslib.signer import CryptoSigner

from distribution.canonical_json import canonical_bytes, envelope
from distribution.manifest import (
    Encryption,
    Manifest,
    ManifestError,
    ManifestFile,
    Package,
    Part,
    Policy,
    Sanity,
    manifest_path,
    parse,
    target_path,
)

MODEL = ManifestFile(10, "a" * 64, "model", "application/octet-stream", "models/digits/4/tflite-full-int8/model.tflite")
LABELS = ManifestFile(2, "b" * 64, "labels", "text/plain", "models/digits/4/tflite-full-int8/labels.txt")
TENSOR = {"name": "x", "shape": [1, 32, 32, 1], "dtype": "float32"}
INSTALL = Manifest(
    version=7,
    expires=datetime(2030, 1, 15, 12, 0, 0, tzinfo=UTC),
    application="demo",
    channel="production",
    model="digits",
    release_counter=4,
    model_version=4,
    variant="tflite-full-int8",
    device_classes={"android": ("npu", "gpu")},
    runtime="litert",
    entry="model.tflite",
    files={"model.tflite": MODEL, "labels.txt": LABELS},
    signature_schema={"inputs": [TENSOR], "outputs": [], "labels_file": "labels.txt"},
    sanity=Sanity("labels.txt", "0.02"),
    policy=Policy(wifi_only=True, max_cellular_bytes=1000),
    lineage={"source": "c" * 64, "samples": 100},
)
EMBEDDED = Manifest(
    version=8,
    expires=datetime(2030, 1, 15, tzinfo=UTC),
    application="demo",
    channel="production",
    model="digits",
    release_counter=5,
    directive="use_embedded",
)


WEIGHTS = replace(MODEL, target="models/digits/4/tflite-full-int8/net.mlpackage/weights.bin")
BUNDLE = replace(
    INSTALL,
    min_runtime="2.1",
    files=INSTALL.files | {"decoder/model.tflite": MODEL, "net.mlpackage/weights.bin": WEIGHTS},
    parts={"decoder": Part("decoder/model.tflite", {"inputs": [TENSOR]}, Sanity("labels.txt", "1"), {"samples": 7})},
    packages={"net.mlpackage": Package("d" * 64, replace(MODEL, target="models/digits/4/net.mlpackage.zip"))},
    policy=Policy(charging_only=True, keep_previous=False),
    encryption=Encryption("aes-gcm", "e" * 32, {"model.tflite": (10, "f" * 64), "net.mlpackage.zip": (9, "0" * 64)}),
)


@pytest.mark.parametrize("manifest", [INSTALL, EMBEDDED, BUNDLE])
def test_a_manifest_survives_signing_and_parsing(manifest):
    signed = manifest.to_signed()
    parsed, document, signatures = parse(envelope(signed, [{"keyid": "k", "sig": "00"}]))
    assert canonical_bytes(parsed.to_signed()) == canonical_bytes(signed)
    assert document == signed
    assert signatures == [{"keyid": "k", "sig": "00"}]
    assert parsed == manifest


def test_the_members_of_a_bundle_stand_in_what_is_signed():
    signed = BUNDLE.to_signed()
    assert signed["min_runtime"] == "2.1"
    assert signed["parts"]["decoder"] == {
        "entry": "decoder/model.tflite",
        "signature_schema": {"inputs": [TENSOR]},
        "sanity": {"path": "labels.txt", "tolerance": "1"},
        "lineage": {"samples": 7},
    }
    assert signed["packages"]["net.mlpackage"]["tree_sha256"] == "d" * 64
    assert signed["packages"]["net.mlpackage"]["archive"]["target"] == "models/digits/4/net.mlpackage.zip"
    assert signed["encryption"] == {
        "algorithm": "aes-gcm",
        "key_id": "e" * 32,
        "files": {
            "model.tflite": {"length": 10, "sha256": "f" * 64},
            "net.mlpackage.zip": {"length": 9, "sha256": "0" * 64},
        },
    }
    assert signed["policy"] == {"wifi_only": False, "charging_only": True, "keep_previous": False}
    assert not {"parts", "packages", "encryption"} & set(INSTALL.to_signed())


PART, PACKAGE = ("parts", "decoder"), ("packages", "net.mlpackage")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("_type",), "x", "signed._type: expected one of aerogram-manifest"),
        (("spec_version",), "2", "signed.spec_version: expected one of 1"),
        (("model_version",), 0, "signed.model_version: expected an integer from 1"),
        (("expires",), "2030-02-30T00:00:00Z", "signed.expires: expected an existing time"),
        (("files", "model.tflite", "target"), "../x", "target: expected a string like"),
        (("files", "model.tflite", "sha256"), "x", "sha256: expected a string like"),
        (("files", "model.tflite", "media_type"), "x" * 128, "media_type: expected a string of at most 127"),
        (("signature_schema", "inputs", 0, "dtype"), "Float", r"inputs\[0\].dtype: expected a string like"),
        (("signature_schema", "inputs", 0, "shape"), [1] * 17, r"inputs\[0\].shape: expected a list of at most 16"),
        (("parts",), {"Decoder": {"entry": "model.tflite", "lineage": {}}}, "parts.Decoder.entry: expected a path"),
        (("parts",), {"net.ml": {"entry": "net.ml/x", "lineage": {}}}, "parts.net.ml.entry: expected a path below"),
        ((*PART, "entry"), "model.tflite", "parts.decoder.entry: expected a path below the part's own name"),
        ((*PART, "entry"), "decoder/absent", "parts.decoder.entry: expected a file of the manifest"),
        ((*PART, "sanity", "path"), "absent", "parts.decoder.sanity.path: expected a file of the manifest"),
        ((*PACKAGE, "tree_sha256"), "D" * 64, "net.mlpackage.tree_sha256: expected a string like"),
        (("packages", "model.tflite"), BUNDLE.packages["net.mlpackage"].to_json(), "packages: expected folders"),
        (("packages", "absent"), BUNDLE.packages["net.mlpackage"].to_json(), "packages: expected folders"),
        (("encryption", "key_id"), "E" * 32, "encryption.key_id: expected a string like"),
        (("encryption", "files", "model.tflite", "sha256"), "x", "files.model.tflite.sha256: expected a string like"),
        (("encryption", "files", "absent"), {"length": 1, "sha256": "0" * 64}, r"of the manifest, got \['absent'"),
        (("directive",), "use_embedded", "signed.model_version: expected nothing under directive use_embedded"),
    ],
)
def test_a_document_with_one_wrong_member_is_refused_with_its_place(path, value, message):
    signed = json.loads(json.dumps(BUNDLE.to_signed()))
    Manifest.from_signed(signed)
    inner = signed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ManifestError, match=message):
        Manifest.from_signed(signed)


@pytest.mark.parametrize("name", ["parts", "packages", "encryption"])
def test_the_embedded_model_comes_with_nothing_of_a_bundle(name):
    with pytest.raises(ManifestError, match=f"signed.{name}: expected nothing under directive use_embedded"):
        replace(EMBEDDED, **{name: getattr(BUNDLE, name)}).to_signed()


@pytest.mark.parametrize(
    ("signatures", "told"),
    [
        ([{"keyid": "k", "sig": "0"}] * 21, "signatures: expected a list of at most 20"),
        ([{"keyid": "k" * 201, "sig": "0"}], r"signatures\[0\].keyid: expected a string of at most 200"),
        ([{"keyid": "k", "sig": "0" * 2049}], r"signatures\[0\].sig: expected a string of at most 2048"),
    ],
)
def test_signatures_have_bounds(signatures, told):
    most = [{"keyid": "k" * 200, "sig": "0" * 2048}] * 20
    assert parse(envelope(INSTALL.to_signed(), most))[2] == most
    with pytest.raises(ManifestError, match=told):
        parse(envelope(INSTALL.to_signed(), signatures))


def test_a_signature_over_the_canonical_bytes_verifies_after_the_round_trip():
    signer = CryptoSigner.generate_ecdsa()
    signed = INSTALL.to_signed()
    signature = signer.sign(canonical_bytes(signed))
    _, document, signatures = parse(
        envelope(signed, [{"keyid": signature.keyid, "sig": signature.signature}]).replace(
            b'"spec_version"', b' "spec_version"'
        )
    )
    assert signatures[0]["sig"] == signature.signature
    signer.public_key.verify_signature(signature, canonical_bytes(document))


def test_members_this_version_does_not_know_are_kept_in_the_document():
    signed = INSTALL.to_signed() | {"later": {"x": 1}}
    _, document, _ = parse(envelope(signed, []))
    assert document["later"] == {"x": 1}


def test_expiry_is_written_in_utc():
    east = INSTALL.expires.astimezone(timezone(timedelta(hours=5)))
    assert replace(INSTALL, expires=east).to_signed()["expires"] == "2030-01-15T12:00:00Z"


def test_paths():
    assert INSTALL.path == "manifests/production/digits/7.4.tflite-full-int8.json"
    assert EMBEDDED.path == "manifests/production/digits/8.use_embedded.json"
    assert manifest_path("beta", "m", 1, 2, "coreml-fp16") == "manifests/beta/m/1.2.coreml-fp16.json"
    assert target_path("digits", 4, "tflite-full-int8", "model.tflite") == MODEL.target


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"version": 0}, "signed.version: expected an integer from 1"),
        ({"directive": "x"}, "signed.directive: expected one of install, use_embedded"),
        ({"model_version": None}, "signed.model_version: expected a value under directive install"),
        ({"variant": None}, "signed.variant: expected a value"),
        ({"files": {}}, "signed.files: expected a value"),
        ({"runtime": ""}, "signed.runtime: expected a value"),
        ({"entry": "other.tflite"}, "signed.entry: expected a file of the manifest"),
        ({"entry": "model"}, "signed.entry: expected a file of the manifest"),
        ({"files": {"../model.tflite": MODEL}, "entry": "../model.tflite"}, "signed.files: expected relative paths"),
        ({"files": {"/model.tflite": MODEL}}, "signed.files: expected relative paths"),
        ({"files": {"a//b": MODEL}}, "signed.files: expected relative paths"),
        ({"sanity": Sanity("none.json", "0.02")}, "signed.sanity.path: expected a file"),
        ({"sanity": Sanity("labels.txt", "2e-2")}, "signed.sanity.tolerance: expected a string like"),
        ({"signature_schema": {"labels_file": "none.txt"}}, "labels_file: expected a file"),
        ({"signature_schema": {"inputs": [{"name": "x"}]}}, r"inputs\[0\].dtype: expected a string"),
        ({"lineage": {"loss": 0.5}}, "signed.lineage.loss: expected no floats"),
        ({"lineage": {"n": 2**53}}, "signed.lineage.n: expected integers up to"),
        ({"lineage": {"s": "\ud800"}}, "signed.lineage.s: expected text that UTF-8"),
        ({"directive": "use_embedded"}, "signed.model_version: expected nothing under directive use_embedded"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_never_signed(members, message):
    with pytest.raises(ManifestError, match=message):
        replace(INSTALL, **members).to_signed()


def test_a_folder_may_be_the_entry():
    files = {"model.mlpackage/Manifest.json": MODEL, "model.mlpackage/Data/weights/weight.bin": MODEL}
    package = replace(INSTALL, files=files, entry="model.mlpackage", sanity=None, signature_schema=None)
    assert package.to_signed()["entry"] == "model.mlpackage"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"signed":{},"signatures":[]}', b'{"signed":NaN}', b"\xff", b"[" * 5000]
)
def test_what_is_not_a_manifest_is_refused(data):
    with pytest.raises(ManifestError, match="expected"):
        parse(data)
