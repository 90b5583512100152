"""Publishes that race: several processes over several applications, one signer, one stock client that looks on.

python -m tests.chaos.race [--publishes 300] [--processes 8] [--applications 5]

starts a PostgreSQL and a Redis of its own, runs the whole race and prints its figures; the suite runs a smaller one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
MODELS_EACH = 2
PATIENCE_SECONDS = 900


@dataclass(frozen=True)
class Figures:
    """`revisions`: published ones of all applications; `seen`: those among them that the checker happened to see."""

    publishes: int
    processes: int
    applications: int
    seconds: float
    revisions: int
    seen: int
    checker_passes: int


def race(*, publishes: int, processes: int, applications: int, folder: Path, variables: Mapping[str, str]) -> Figures:
    """Run it on the database and store that both Django here and `variables` lead to. Raises AssertionError."""
    keys, done, checked = folder / "race-publisher", folder / "race-done", folder / "race-checked"
    versions = _prepare(publishes, applications, keys)
    shares = [versions[number::processes] for number in range(processes)]
    environment = {**os.environ, **variables}
    trees = Path(_tree_of("race-0")).parent
    started = time.monotonic()
    signer, checker = _start(environment, "sign", keys, done), _start(environment, "check", trees, checked)
    racers = [_start(environment, "publish", *share) for share in shares]
    try:
        for racer in racers:
            _finish(racer)
        done.touch()
        _finish(signer)
        _settle(keys)
        seconds = time.monotonic() - started
        checked.touch()
        told = json.loads(_finish(checker))
    finally:
        done.touch()
        checked.touch()
    revisions = _require_whole(publishes)
    return Figures(
        publishes=publishes,
        processes=processes,
        applications=applications,
        seconds=round(seconds, 1),
        revisions=revisions,
        seen=sum(map(len, told["seen"].values())),
        checker_passes=told["passes"],
    )


def _prepare(publishes: int, applications: int, keys: Path) -> list[int]:
    """The applications with a first revision each, and a version for every publish, spread over all models."""
    from tests import factories

    found = [factories.application(f"race-{number}") for number in range(applications)]
    _settle(keys)
    turns = [(found[n % applications], f"m{n // applications % MODELS_EACH}") for n in range(publishes)]
    return [factories.converted_version(application, model).pk for application, model in turns]


def _settle(keys: Path) -> None:
    """Let everything that is asked for become published, as beat and the signer would; no other signer may run."""
    from django.utils import timezone

    from distribution import publishing
    from distribution.trust.keys import KeyFolder
    from distribution.trust.publisher import sign_pending
    from registry.models import Application

    for application in Application.objects.filter(slug__startswith="race-"):
        publishing.publish_application(application, clock=timezone.now)
        sign_pending(application=application, keys=KeyFolder(keys), now=timezone.now())
        publishing.publish_application(application, clock=timezone.now)


def _tree_of(slug: str) -> str:
    from registry.blob_store import blob_store

    return str(blob_store().storage.path(f"tree/{slug}"))


def _require_whole(publishes: int) -> int:
    """Nothing lost, nothing mixed: rows and tree tell the same story. Returns how many revisions there were."""
    from distribution.models import Release
    from distribution.trust.tree import SignedTree
    from registry.blob_store import blob_store
    from registry.models import Application, PublishRequest

    assert Release.objects.count() == publishes
    assert not PublishRequest.objects.filter(consumed_at__isnull=True).exists()
    total = 0
    for application in Application.objects.filter(slug__startswith="race-"):
        numbers = list(application.revisions.order_by("number").values_list("number", flat=True))
        assert numbers == list(range(1, len(numbers) + 1)), f"{application}: revisions {numbers}"
        assert not application.revisions.filter(published_at__isnull=True).exists()
        pointer = SignedTree(blob_store(), application.slug).current()
        assert pointer is not None
        assert pointer.revision == numbers[-1]
        for model in application.registered_models.all():
            releases = Release.objects.filter(model_version__model=model)
            assert list(releases.filter(state=Release.State.LIVE)) == [releases.first()], f"{application} {model}"
        total += len(numbers)
    return total


def _start(environment: Mapping[str, str], part: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-m", "tests.chaos.race_worker", part]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=CHECKOUT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: "subprocess.Popen[str]") -> str:
    out, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, told[-4000:]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publishes", type=int, default=300)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--applications", type=int, default=5)
    options = parser.parse_args()
    from deploy.dev import services

    with services.throwaway_folder() as folder, services.running(folder / "var") as running:
        os.environ |= {
            **running.environment(),
            "AEROGRAM_SECRET_KEY": "for a race, no secret",
            "AEROGRAM_VAR_DIR": str(folder / "var"),
            "AEROGRAM_ONLINE_KEYS_DIR": str(running.layout.online_keys),
            "BLOB_STORE_URL": running.layout.blobs.as_uri(),
            "DJANGO_SETTINGS_MODULE": "deploy.settings",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        figures = race(
            publishes=options.publishes,
            processes=options.processes,
            applications=options.applications,
            folder=folder,
            variables={},
        )
        print(json.dumps(asdict(figures), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
