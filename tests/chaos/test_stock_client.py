"""python-tuf's own client, knowing nothing of Aerogram but the root, gets a variant's file from the running server."""

import hashlib
import json
from pathlib import Path

import pytest
from tuf.ngclient import Updater, UpdaterConfig

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]


def test_the_stock_updater_downloads_a_published_file(stack, released, tmp_path):
    variant = stack.server.variants(released, 1)[0]
    model_file = next(file for file in variant["files"] if file["role"] == "model")
    updater = Updater(
        metadata_dir=str(tmp_path / "metadata"),
        metadata_base_url=f"{stack.app_url}/trust/",
        target_base_url=f"{stack.app_url}/targets/",
        target_dir=str(tmp_path),
        config=UpdaterConfig(),
        bootstrap=json.dumps(stack.server.root()).encode(),
    )
    updater.refresh()
    target = updater.get_targetinfo(f"models/{released}/1/{variant['name']}/{model_file['path']}")
    assert target is not None
    path = Path(updater.download_target(target))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model_file["sha256"]
    assert (target.length, target.custom["model_version"]) == (model_file["size_bytes"], 1)
