"""tuf-conformance's static-repository test, on a tree that Aerogram published: 2-of-3 root, delegations, custom.

The suite is not on any package index: `TUF_CONFORMANCE_DIR` is a checkout of theupdateframework/tuf-conformance.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from distribution.trust import ceremony
from tests.distribution.conftest import phones, world  # noqa: F401
from tests.distribution.trusted import World

SUITE = os.environ.get("TUF_CONFORMANCE_DIR", "")
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not SUITE, reason="TUF_CONFORMANCE_DIR: expected a checkout of tuf-conformance, got nothing"),
]
NAME = "aerogram"
# The suite runs clients at a moment of the past; this tree is signed now, so any moment but now would be wrong.
FAKETIME = '#!/bin/sh\nshift\nexec "$@"\n'


@pytest.fixture
def repository(world: World, tmp_path):  # noqa: F811
    """The published tree as the suite wants static repositories: two roots, a delegated model, two releases."""
    key = world.folder / "faces.pem"
    key.write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    world.uris["demo/models-digits"] = [f"file:{key}"]
    world.bring(
        world.next_root(root=ceremony.Holders([world.people[name].public_key for name in ("bob", "cyd", "dan")], 2)),
        "bob",
        "cyd",
    )
    world.release(2)
    folder = tmp_path / "suite"
    shutil.copytree(Path(SUITE) / "tuf_conformance", folder / "tuf_conformance")
    shutil.copytree(Path(SUITE) / "clients", folder / "clients")
    data = folder / "tuf_conformance/static_data"
    shutil.rmtree(data)
    shutil.copytree(world.tree_folder / "trust", data / NAME / "metadata")
    shutil.copytree(world.tree_folder / "targets", data / NAME / "targets")
    shutil.copy(world.tree_folder / "trust/1.root.json", data / NAME / "initial_root.json")
    target = "models/digits/2/tflite-float32/model.tflite"
    content = next(
        file.artifact
        for file in world.application.registered_models.get()
        .versions.get(number=2)
        .variants.get()
        .files.filter(role="model")
    )
    stored = data / NAME / "targets/models/digits/2/tflite-float32" / f"{content.sha256}.model.tflite"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(world.tree.read(f"blobs/sha256/{content.sha256[:2]}/{content.sha256}"))
    (data / NAME / "targetpath").write_text(target + "\n")
    return folder


def test_the_suites_client_takes_a_file_of_a_delegated_model_across_a_root_rotation(repository):
    programs = repository / "bin"
    programs.mkdir()
    faketime = programs / "faketime"
    faketime.write_text(FAKETIME)
    faketime.chmod(0o755)
    client = f"{sys.executable} {repository / 'clients/python-tuf/python_tuf.py'}"
    entrypoint = programs / "client"
    entrypoint.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    entrypoint.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        ".",
        "tuf_conformance/test_static_repositories.py",
        "--entrypoint",
        str(entrypoint),
    ]
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(repository)}
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"PASSED tuf_conformance/test_static_repositories.py::test_static_repository[{NAME}]" in done.stdout
