"""What one variant holds: the conversion's files, zips of its packages, the version's extra files and its parts'."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO

from registry.blob_store import blob_store
from registry.bundles import BundleError, require_apart, require_path
from registry.conversion.plan import FOR_READY_FILES
from registry.conversion.recipes import ADOPTION_STEPS, RECIPES, Recipe
from registry.conversion.report import Report
from registry.device_classes import compare_versions
from registry.digests import tree_digest
from registry.models import Artifact, ConversionJob, ModelVersion, Variant, VariantFile
from registry.packages import ARCHIVE_SUFFIX, MANIFEST, MAX_MANIFEST_BYTES, package_digest, write_zip
from registry.services.workspaces import Beat

ARCHIVE = "archive"
UNKNOWN_MEDIA_TYPE = "application/octet-stream"
MEDIA_TYPES = {
    ".tflite": "application/vnd.tflite",
    ".json": "application/json",
    ".txt": "text/plain",
    ".pbtxt": "text/plain",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Shipped:
    """One file that devices fetch, at its path in the bundle."""

    path: str
    role: str
    artifact: Artifact
    media_type: str = UNKNOWN_MEDIA_TYPE


@dataclass(frozen=True)
class Bundle:
    """`packages` as in `Variant`; `parts` are other models' variants by the name that their files stand below."""

    files: tuple[Shipped, ...]
    packages: Mapping[str, Mapping[str, str]]
    parts: Mapping[str, Variant]
    min_runtime_version: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all model files."""
        return sum(file.artifact.size_bytes for file in self.files if file.role == "model")

    @property
    def tree_digest(self) -> str:
        """Of all files; a package counts as one, by its own tree digest, and its zip not at all."""
        folders = tuple(f"{root}/" for root in self.packages)
        plain = {
            file.path: file.artifact.sha256
            for file in self.files
            if file.role != ARCHIVE and not file.path.startswith(folders)
        }
        return tree_digest({**plain, **{root: about["tree_sha256"] for root, about in self.packages.items()}})


def media_type(path: str) -> str:
    return MEDIA_TYPES.get(PurePosixPath(path).suffix.lower(), UNKNOWN_MEDIA_TYPE)


def missing_part(job: ConversionJob) -> str:
    """Why a recipe cannot make a whole bundle; empty when it can, and for traces."""
    if job.is_trace:
        return ""
    try:
        _parts(job)
    except BundleError as error:
        return str(error)
    return ""


def assemble(
    job: ConversionJob, report: Report, artifacts: Mapping[str, Artifact], folder: Path, now: datetime, beat: Beat
) -> Bundle:
    """The bundle of a conversion that succeeded. Zips are written to `folder` and kept. Raises BundleError."""
    parts = _parts(job)
    made = [
        Shipped(produced.path, produced.role, artifacts[produced.path], media_type(produced.path))
        for produced in report.files
        if produced.role != "trace"
    ]
    extra = [
        Shipped(row.path, row.role, row.artifact, row.media_type)
        for row in job.version.files.select_related("artifact")
    ]
    files = [*made, *extra, *_files_of(parts)]
    for file in files:
        require_path(file.path)
    require_apart(file.path for file in files)
    packages = _packages_of(parts)
    if any(file.path.startswith(f"{report.entry}/") for file in made):
        archive = _archived(report.entry, made, folder, now, beat)
        files.append(archive)
        packages[report.entry] = {"tree_sha256": _package_digest(report.entry, made), "archive": archive.path}
    return Bundle(tuple(files), packages, parts, _newest_runtime(report.min_runtime_version, parts))


def built_files(variant: Variant) -> list[VariantFile]:
    """Those that the variant's own conversion made: neither zips, nor the version's extra files, nor its parts'."""
    extra = set(variant.version.files.values_list("path", flat=True))
    parts = tuple(f"{name}/" for name in variant.parts.values_list("name", flat=True))
    return [
        file
        for file in variant.files.select_related("artifact")
        if file.role != ARCHIVE and file.path not in extra and not file.path.startswith(parts)
    ]


def _parts(job: ConversionJob) -> dict[str, Variant]:
    """Each part's variant that goes with the job's recipe. Raises BundleError for the first part that has none."""
    recipe = RECIPES[job.recipe]
    found = {}
    for row in job.version.parts.select_related("part__model"):
        variant = _fitting(row.part, recipe) if row.part.yanked_at is None else None
        if variant is None:
            wanted = f"the part {row.name}, {row.part}, to have a variant {recipe.slug} or one ready file"
            got = "a yanked version" if row.part.yanked_at else "none"
            raise BundleError(f"expected {wanted} for {recipe.runtime}, got {got}")
        found[row.name] = variant
    return found


def _fitting(part: ModelVersion, recipe: Recipe) -> Variant | None:
    """The variant made by the same recipe; of a part that was registered ready to run, its file as it is."""
    variants = list(part.variants.filter(runtime=recipe.runtime))
    same = [variant for variant in variants if variant.name == recipe.slug]
    ready = [variant for variant in variants if variant.name in FOR_READY_FILES]
    if not ready and part.source_format in ADOPTION_STEPS:
        ready = variants
    return same[0] if same else ready[0] if len(ready) == 1 else None


def _files_of(parts: Mapping[str, Variant]) -> Iterator[Shipped]:
    for name, part in parts.items():
        for file in part.files.select_related("artifact"):
            yield Shipped(f"{name}/{file.path}", file.role, file.artifact, file.media_type)


def _packages_of(parts: Mapping[str, Variant]) -> dict[str, Mapping[str, str]]:
    return {
        f"{name}/{root}": {**about, "archive": f"{name}/{about['archive']}"}
        for name, part in parts.items()
        for root, about in part.packages.items()
    }


def _newest_runtime(own: str, parts: Mapping[str, Variant]) -> str:
    newest = own
    for part in parts.values():
        if compare_versions(part.min_runtime_version, newest) > 0:
            newest = part.min_runtime_version
    return newest


def _package_digest(root: str, files: list[Shipped]) -> str:
    inner = {file.path.removeprefix(f"{root}/"): file for file in files if file.path.startswith(f"{root}/")}
    if MANIFEST not in inner:
        raise BundleError(f"expected a {MANIFEST} in {root}, got {', '.join(sorted(inner)[:5])}")
    with blob_store().open(inner[MANIFEST].artifact.sha256) as stream:
        manifest = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise BundleError(f"expected at most {MAX_MANIFEST_BYTES} bytes in {root}/{MANIFEST}, got more")
    return package_digest({path: file.artifact.sha256 for path, file in inner.items()}, manifest)


def _archived(root: str, files: list[Shipped], folder: Path, now: datetime, beat: Beat) -> Shipped:
    """The package as one file beside its own, which unpacks to a folder of its name."""
    target = folder / f"{PurePosixPath(root).name}{ARCHIVE_SUFFIX}"
    members = [file for file in files if file.path.startswith(f"{root}/")]
    write_zip(target, ((file.path, file.artifact.size_bytes, _opener(file, beat)) for file in members))
    staged = blob_store().put_file(target, on_chunk=beat)
    artifact, _ = Artifact.objects.get_or_create(
        sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": now}
    )
    path = f"{root}{ARCHIVE_SUFFIX}"
    return Shipped(path, ARCHIVE, artifact, media_type(path))


def _opener(file: Shipped, beat: Beat) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        beat()
        return blob_store().open(file.artifact.sha256)

    return opened
