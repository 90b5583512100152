"""Protected bundles and packages: nothing of them is in the tree, by whatever way it came in."""

import io
import zipfile

import pytest

from distribution.manifest import Manifest, parse
from distribution.models import EncryptedFile, Release
from distribution.protection import services as protection
from distribution.protection.chunks import decrypt
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from registry.blob_store import blob_store
from registry.services.models import create_model
from tests.distribution.test_bundles import PACKAGE, registry  # noqa: F401 - a fixture
from tests.factories import NOW
from tests.sdk.fake_runtime import model_file

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("kek")]


def protect(world, slug):
    models = world.application.registered_models
    model = models.filter(slug=slug).first() or create_model(
        application=world.application, slug=slug, name=slug, actor="ada", now=NOW
    )
    protection.set_protection(protection=protection.protection_of(model), is_on=True, actor="ada", now=NOW)


def encrypt(world):
    encrypt_pending(application=world.application, now=world.clock())
    world.run()


def in_the_tree(world, content):
    return [path for path in world.tree_folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def newest_manifest(world, model, version) -> Manifest:
    folder = world.tree_folder / f"manifests/production/{model}"
    found = [parse(path.read_bytes())[0] for path in folder.glob(f"*.{version}.*.json")]
    return max(found, key=lambda manifest: manifest.version)


def test_a_bundle_is_encrypted_for_the_sake_of_its_part(world, registry):  # noqa: F811
    decoder = registry.version("decoder", 5)
    protect(world, "decoder")
    registry.release(registry.bundle(2, decoder))
    assert Release.objects.get(model_version__model__slug="captions").is_protected
    encrypt(world)
    signed = newest_manifest(world, "captions", 1)
    assert set(signed.encryption.files) == {
        "decoder/model.tflite",
        "graph.binarypb",
        "labels.txt",
        "model.tflite",
    }
    assert not in_the_tree(world, model_file(5, padding=5000))
    assert not in_the_tree(world, b"node {}")


def test_a_package_and_its_zip(world, registry):  # noqa: F811
    protect(world, "faces")
    version = registry.version("faces", 1, recipe="coreml-fp16", made=PACKAGE)
    registry.release(version)
    encrypt(world)
    signed = newest_manifest(world, "faces", 1)
    archive = signed.packages["model.mlpackage"].archive
    assert set(signed.encryption.files) >= {*PACKAGE, "model.mlpackage.zip"} - {"sanity.json"}
    for content in PACKAGE.values():
        assert not in_the_tree(world, content)
    file = EncryptedFile.objects.select_related("content_key", "plaintext").get(artifact__sha256=archive.sha256)
    with blob_store().open(archive.sha256) as stream:
        told = {"sha256": file.plaintext.sha256, "length": file.plaintext.size_bytes}
        secret = unwrapped(file.content_key, key_encryption_keys())
        plain = b"".join(decrypt(io.BytesIO(stream.read()), key=secret, **told))
    assert zipfile.ZipFile(io.BytesIO(plain)).testzip() is None
