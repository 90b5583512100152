"""Patches of published files: which are wanted, made, worth offering, and listed for devices.

Nothing that a device or a release waits for depends on them: they are asked for after a publish, made in the queue
`light`, and listed by the queue `publish`, which has the key. A missing list is normal.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.db import transaction

from distribution import errors
from distribution.canonical_json import canonical_bytes, envelope
from distribution.models import EmbeddedModel, Patch, Release
from distribution.trust.configured import online_keys
from distribution.trust.roles import SNAPSHOT
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.models import Application, Artifact, AuditEntry, RegisteredModel, VariantFile
from registry.services.conversions.bundling import ARCHIVE
from registry.tasks import enqueue_on_commit

ALGORITHM = "weightdiff-1"
BASES = 5  # published versions back
WORTH_PERCENT = 70  # of the full file, at most
SMALLEST_TARGET_BYTES = 4096  # below, a request costs more than the bytes
MIB = 1 << 20
# The encoder holds some fifteen times the larger file (distribution/deltas/encoder.py).
MEMORY_PER_BYTE = 16
FAILURE_DETAIL = 500


def register_embedded(
    *, application: Application, model: RegisteredModel, artifact: Artifact, file_name: str, actor: str, now: datetime
) -> EmbeddedModel:
    """Note that the app ships with these bytes; patches of them are made with the next publish, and now."""
    with transaction.atomic():
        row, is_new = EmbeddedModel.objects.get_or_create(
            model=model,
            artifact=artifact,
            defaults={
                "application": application,
                "file_name": file_name,
                "registered_by": actor,
                "registered_at": now,
            },
        )
        if is_new:
            AuditEntry.record(
                now=now, actor=actor, verb="register_embedded_model", subject=str(row), application=application
            )
            request_patches(application=application, now=now)
    return row


def artifact_in_use(*, application: Application, sha256: str) -> Artifact:
    """A variant's file of this application. Raises `EmbeddedFileUnknown`."""
    found = VariantFile.objects.filter(variant__version__model__application=application, artifact__sha256=sha256)
    file = found.select_related("artifact").first()
    if file is None:
        raise errors.EmbeddedFileUnknown(
            f"expected the digest of a variant's file of {application}, got {sha256}; upload the file instead",
            field="sha256",
        )
    return file.artifact


def request_patches(*, application: Application, now: datetime) -> list[Patch]:
    """Rows for what devices may need next, and a task for each new one. Safe to call again."""
    made = []
    with transaction.atomic():
        for target, base in _wanted_pairs(application):
            row, is_new = Patch.objects.get_or_create(
                application=application,
                target=target,
                base=base,
                algorithm=ALGORITHM,
                defaults={"requested_at": now},
            )
            if is_new:
                made.append(row)
                _enqueue_make(row)
    return made


def request_again(*, older_than: datetime) -> int:
    """Tasks for rows that a lost message or a killed worker left waiting. How many."""
    waiting = Patch.objects.filter(state=Patch.State.WAITING, requested_at__lt=older_than)
    with transaction.atomic():
        for row in waiting:
            _enqueue_make(row)
    return len(waiting)


def _enqueue_make(row: Patch) -> None:
    from distribution import tasks  # noqa: PLC0415 - tasks call these

    enqueue_on_commit(tasks.make_patch, row.pk, queue="light")


def _wanted_pairs(application: Application) -> Iterator[tuple[Artifact, Artifact]]:
    """(target, base) by digest, each once."""
    # A patch is public: of or to a protected file it would tell what is encrypted.
    live = Release.objects.filter(channel__application=application, state=Release.State.LIVE, is_protected=False)
    seen: set[tuple[int, int]] = set()
    for release in live.select_related("model_version__model", "channel"):
        files = _files(release.model_version_id)
        for key, target in files.items():
            for base in _bases(release, key):
                pair = target.pk, base.pk
                if target.pk != base.pk and target.size_bytes >= SMALLEST_TARGET_BYTES and pair not in seen:
                    seen.add(pair)
                    yield target, base


def _files(version_id: int) -> dict[tuple[str, str], Artifact]:
    """By variant and path; not the small vectors that every version has new ones of, nor zips of what is there."""
    rows = VariantFile.objects.filter(variant__version=version_id).exclude(role__in=["sanity", ARCHIVE])
    return {(row.variant.name, row.path): row.artifact for row in rows.select_related("variant", "artifact")}


def _bases(release: Release, key: tuple[str, str]) -> Iterator[Artifact]:
    """The same file of the versions published before, newest first, and what apps ship with."""
    model = release.model_version.model
    for version_id in _published_before(release):
        base = _files(version_id).get(key)
        if base is not None:
            yield base
    suffix = PurePosixPath(key[1]).suffix
    for embedded in model.embedded_models.select_related("artifact"):
        if PurePosixPath(embedded.file_name).suffix == suffix:
            yield embedded.artifact


def _published_before(release: Release) -> list[int]:
    published = Release.objects.filter(
        channel=release.channel,
        model_version__model=release.model_version.model,
        live_revision__isnull=False,
        is_protected=False,
    ).exclude(model_version=release.model_version)
    versions = published.order_by("-live_revision", "-id").values_list("model_version_id", flat=True)
    return list(dict.fromkeys(versions))[:BASES]


def make_patch(*, patch_id: int, clock: Callable[[], datetime]) -> Patch:
    """Make, apply and judge one patch in a process of its own. Leaves the row in its final state."""
    row = Patch.objects.select_related("application", "target", "base").get(pk=patch_id)
    if row.state != Patch.State.WAITING:
        return row
    if max(row.base.size_bytes, row.target.size_bytes) > largest_bytes():
        row.state, row.detail = Patch.State.TOO_LARGE, f"expected at most {largest_bytes()} bytes"
    else:
        _make(row)
    row.made_at = clock()
    with transaction.atomic():
        row.save()
        if row.state == Patch.State.OFFERED:
            from distribution import tasks  # noqa: PLC0415 - tasks call this

            enqueue_on_commit(tasks.list_patches, row.application_id, row.target.sha256, queue="publish")
    return row


def largest_bytes() -> int:
    """The cap of base and target: what the encoder can hold within its memory."""
    return max(0, (int(settings.AEROGRAM_PATCH_MEMORY_MIB) - 256) * MIB // MEMORY_PER_BYTE)


def _make(row: Patch) -> None:
    store = blob_store()
    with tempfile.TemporaryDirectory(prefix="patch-") as name:
        folder = Path(name)
        store.copy_to(row.base.sha256, folder / "base")
        store.copy_to(row.target.sha256, folder / "target")
        failure = _run_encoder(folder)
        if failure:
            row.state, row.detail = Patch.State.FAILED, failure
            return
        row.length = (folder / "patch").stat().st_size
        if row.length * 100 > row.target.size_bytes * WORTH_PERCENT:
            row.state, row.detail = Patch.State.NOT_WORTH_IT, f"{row.length} bytes of {row.target.size_bytes}"
            return
        row.sha256 = store.put_file(folder / "patch").sha256
        row.state = Patch.State.OFFERED


def _run_encoder(folder: Path) -> str:
    """Why there is no patch, or nothing. A blow-up kills that process alone."""
    command = [sys.executable, "-m", "distribution.deltas.make", "base", "target", "patch"]
    try:
        done = subprocess.run(
            [*command[:3], *(str(folder / each) for each in command[3:]), str(settings.AEROGRAM_PATCH_MEMORY_MIB)],
            cwd=settings.BASE_DIR,
            # One thread: a library's pool would reserve more address space than the limit allows.
            env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            timeout=settings.AEROGRAM_PATCH_TIMEOUT_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"expected an end within {settings.AEROGRAM_PATCH_TIMEOUT_SECONDS} s"
    if done.returncode == 0:
        return ""
    return f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:] or ''}"[:FAILURE_DETAIL]


def list_patches(*, application: Application, target_sha256: str) -> bool:
    """Sign and store the list of patches that lead to a target. Whether it changed.

    Signed with the snapshot key: a target belongs to the application, not to one channel. See ADR 0013.
    """
    with transaction.atomic():
        # Two tasks of one target follow one another; the second one sees what the first one saw and more.
        Artifact.objects.select_for_update().get(sha256=target_sha256)
        offered = Patch.objects.filter(
            application=application, target__sha256=target_sha256, state=Patch.State.OFFERED
        ).select_related("base")
        tree = SignedTree(blob_store(), application.slug)
        return _write_list(tree, target_sha256, offered.order_by("length", "id"))


def _write_list(tree: SignedTree, target_sha256: str, offered: Iterable[Patch]) -> bool:
    patches = [
        {"from": row.base.sha256, "length": row.length, "sha256": row.sha256, "algorithm": row.algorithm}
        for row in offered
    ]
    if not patches:
        return False
    signed = {"_type": "aerogram-patches", "spec_version": "1", "target": target_sha256, "patches": patches}
    signers = online_keys().signers(tree.application, SNAPSHOT)
    if _is_listed(tree.read_patches(target_sha256), signed, {signer.public_key.keyid for signer in signers}):
        return False
    for row in patches:
        tree.link_blob(str(row["sha256"]))
    signatures = [signer.sign(canonical_bytes(signed)) for signer in signers]
    content = envelope(signed, [{"keyid": each.keyid, "sig": each.signature} for each in signatures])
    tree.write_patches(target_sha256, content)
    return True


def _is_listed(content: bytes | None, signed: object, keyids: set[str]) -> bool:
    document = json.loads(content) if content else {}
    found = {each["keyid"] for each in document.get("signatures", [])}
    return document.get("signed") == signed and found == keyids


def list_again(*, application: Application) -> int:
    """Lists of all targets once more, for a lost message or a replaced key. How many changed."""
    offered = Patch.objects.filter(application=application, state=Patch.State.OFFERED)
    targets = sorted(set(offered.values_list("target__sha256", flat=True)))
    return sum(list_patches(application=application, target_sha256=target) for target in targets)
