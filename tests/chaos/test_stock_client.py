"""python-tuf's own client, knowing nothing of Aerogram but the root, gets a variant's file from the running server."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater, UpdaterConfig

from distribution.trust import ceremony
from distribution.trust.signers import signer_from_uri

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]


def test_the_stock_updater_downloads_a_published_file(stack, released, tmp_path):
    target, model_file = downloaded(stack, released, json.dumps(stack.server.root()).encode(), tmp_path)
    assert (target.length, target.custom["model_version"]) == (model_file["size_bytes"], 1)


def test_the_stock_updater_goes_on_across_a_root_rotation(stack, released, tmp_path):
    """A ceremony by the command line takes the root out of the signer's hands, while everything runs."""
    first = json.dumps(stack.server.root()).encode()
    version = json.loads(first)["signed"]["version"]
    bring_next_root(stack, tmp_path)
    assert stack.server.root()["signed"]["version"] == version + 1
    downloaded(stack, released, first, tmp_path)


def downloaded(stack, model, root, folder):
    """A model file of the first version, by a client that knows `root`: its target, and what the server says of it."""
    variant = stack.server.variants(model, 1)[0]
    model_file = next(file for file in variant["files"] if file["role"] == "model")
    updater = Updater(
        metadata_dir=str(folder / "metadata"),
        metadata_base_url=f"{stack.app_url}/trust/",
        target_base_url=f"{stack.app_url}/targets/",
        target_dir=str(folder),
        config=UpdaterConfig(),
        bootstrap=root,
    )
    updater.refresh()
    target = updater.get_targetinfo(f"models/{model}/1/{variant['name']}/{model_file['path']}")
    assert target is not None
    path = Path(updater.download_target(target))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model_file["sha256"]
    return target, model_file


def bring_next_root(stack, folder):
    """Two of three people follow the development root."""
    current = Metadata[Root].from_dict(stack.server.root())
    people = [CryptoSigner.generate_ecdsa() for _ in range(3)]
    holders = ceremony.Holders([person.public_key for person in people], 2)
    following = ceremony.next_root(current.signed, {"root": holders}, datetime.now(UTC))
    server_key = next(stack.folder.rglob(f"publisher/{stack.server.application}/root.pem"))
    for signer in (signer_from_uri(f"file:{server_key}"), *people[:2]):
        following.sign(signer, append=True)
    stack.server.import_root(following.to_dict(), None)
