"""One process of the race (race.py): a publisher, the signer, or the checker. Ends when the file `done` appears.

python -m tests.chaos.race_worker publish <version id> …
python -m tests.chaos.race_worker sign <folder of keys> <done>
python -m tests.chaos.race_worker check <folder of trees> <done>

The checker prints what it saw as JSON; every one exits 1 on the first thing that is wrong, and says what on stderr.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

CHANNEL = "production"


def publish(version_ids: list[str]) -> None:
    """Release each version and bring its application's tree up to date, as the web and a worker would."""
    from django.utils import timezone

    from distribution import publishing, services
    from registry.models import ModelVersion

    for version_id in map(int, version_ids):
        version = ModelVersion.objects.select_related("model__application").get(pk=version_id)
        application = version.model.application
        channel = application.channels.get(slug=CHANNEL)
        services.publish(channel=channel, version=version, actor="racer", now=timezone.now())
        publishing.publish_application(application, clock=timezone.now)


def sign(keys: Path, done: Path) -> None:
    """The one signer, round after round."""
    from django.utils import timezone

    from distribution.trust.keys import KeyFolder
    from distribution.trust.publisher import sign_pending
    from registry.models import Application

    while True:
        is_last = done.exists()
        for application in Application.objects.all():
            sign_pending(application=application, keys=KeyFolder(keys), now=timezone.now())
        if is_last:
            return


class FolderFetcher(FetcherInterface):
    """Reads the tree as a stock client would over HTTP, without the HTTP."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("file://"))
        if not path.is_file():
            raise DownloadHTTPError(f"{url}: not there", 404)
        yield path.read_bytes()


class Checker:
    """A stock client of one application that never forgets, so that nothing may go back."""

    def __init__(self, tree: Path, scratch: Path) -> None:
        self.tree, self.scratch = tree, scratch / tree.name
        (self.scratch / "metadata").mkdir(parents=True)
        self.fetcher = FolderFetcher()
        self.passes = 0
        self.snapshots: dict[int, str] = {}
        self.manifest_versions: dict[str, int] = {}

    def look(self) -> None:
        """Raises on anything that python-tuf refuses, that is missing, mixed, or older than what was seen."""
        updater = Updater(
            str(self.scratch / "metadata"),
            f"file://{self.tree}/trust/",
            str(self.scratch),
            f"file://{self.tree}/targets/",
            fetcher=self.fetcher,
            bootstrap=None if self.passes else (self.tree / "trust" / "1.root.json").read_bytes(),
        )
        updater.refresh()
        catalog = json.loads(self._target(updater, f"catalogs/{CHANNEL}.json"))
        expect(catalog["application"] == self.tree.name, f"{catalog['application']} in the tree of {self.tree.name}")
        for name, model in catalog["models"].items():
            before = self.manifest_versions.get(name, 0)
            expect(model["manifest_version"] >= before, f"{name} went from {before} to {model['manifest_version']}")
            self.manifest_versions[name] = model["manifest_version"]
            self._follow(updater, name, model)
        self._remember_snapshot()
        self.passes += 1

    def _follow(self, updater: Updater, name: str, model: dict[str, Any]) -> None:
        for number, version in model["versions"].items():
            for variant in version["variants"]:
                reference = variant["manifest"]
                content = (self.tree / reference["path"]).read_bytes()
                expect(hashlib.sha256(content).hexdigest() == reference["sha256"], f"{reference['path']} is another")
                signed = json.loads(content)["signed"]
                said = (signed["application"], signed["model"], signed["model_version"], signed["version"])
                expect(said == (self.tree.name, name, int(number), model["manifest_version"]), f"mixed: {said}")
                for file in signed["files"].values():
                    target = updater.get_targetinfo(file["target"])
                    expect(target is not None and target.hashes["sha256"] == file["sha256"], f"no {file['target']}")

    def _target(self, updater: Updater, path: str) -> bytes:
        target = updater.get_targetinfo(path)
        if target is None:
            raise AssertionError(f"expected {path} among the targets, found none")
        return Path(updater.download_target(target)).read_bytes()

    def _remember_snapshot(self) -> None:
        content = (self.scratch / "metadata" / "snapshot.json").read_bytes()
        revision = json.loads(content)["signed"]["version"]
        digest = hashlib.sha256(content).hexdigest()
        expect(not self.snapshots or revision >= max(self.snapshots), f"revision {revision} after {self.snapshots}")
        expect(self.snapshots.setdefault(revision, digest) == digest, f"two revisions {revision}")


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def check(trees: Path, done: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        checkers = [Checker(tree, Path(scratch)) for tree in sorted(trees.iterdir())]
        while True:
            is_last = done.exists()
            for checker in checkers:
                checker.look()
            if is_last:
                break
    seen = {checker.tree.name: sorted(checker.snapshots) for checker in checkers}
    print(json.dumps({"passes": sum(checker.passes for checker in checkers), "seen": seen}))  # noqa: T201


def main(arguments: list[str]) -> None:
    part, *rest = arguments
    if part == "check":
        check(Path(rest[0]), Path(rest[1]))
        return
    import django

    django.setup()
    import deploy.celery  # noqa: F401 - tasks go to the application's broker

    if part == "sign":
        sign(Path(rest[0]), Path(rest[1]))
    else:
        publish(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
