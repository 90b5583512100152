"""A version's extra files and parts: what its variants hold beside what conversions make of its source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry import errors, inspection
from registry.blob_store import blob_store
from registry.bundles import BundleError, require_content, require_extras, require_parts
from registry.inspection.archive import MAGIC_BYTES
from registry.models import Application, ModelVersion, Upload, VersionFile, VersionPart
from registry.models.conversions import UNFINISHED
from registry.services.conversions.bundling import media_type


@dataclass(frozen=True)
class ExtraFile:
    """`path` is where it stands in the bundle, with `/` between its parts."""

    role: str
    path: str
    upload: Upload


def find_part(application: Application, model: str, number: int) -> ModelVersion:
    """A version to name as a part. Raises `BundleRefused`."""
    found = ModelVersion.objects.filter(model__application=application, model__slug=model, number=number)
    version = found.select_related("model__application").first()
    if version is None:
        raise errors.BundleRefused(
            f"expected a version of {application} as a part, got {model}:{number}", field="parts"
        )
    return version


def find_parts(application: Application, wanted: Iterable[Mapping[str, Any]]) -> dict[str, ModelVersion]:
    """Versions by the name they get: each of `wanted` holds `name`, `model` and `version`. Raises `BundleRefused`."""
    found: dict[str, ModelVersion] = {}
    for part in wanted:
        if part["name"] in found:
            raise errors.BundleRefused(f"expected each part once, got {part['name']} twice", field="parts")
        found[part["name"]] = find_part(application, part["model"], part["version"])
    return found


def require_bundle(
    files: Sequence[ExtraFile], parts: Mapping[str, ModelVersion], *, model_slug: str, has_labels: bool
) -> None:
    """Raises `BundleRefused`, `PartUnfinished`, `VersionYanked`."""
    try:
        require_parts(list(parts))
    except BundleError as error:
        raise errors.BundleRefused(str(error), field="parts") from error
    try:
        require_extras([(file.path, file.role) for file in files], list(parts), has_labels=has_labels)
        for file in files:
            with blob_store().open(file.upload.artifact.sha256) as stream:
                require_content(file.path, file.upload.artifact.size_bytes, stream.read(MAGIC_BYTES))
    except (BundleError, inspection.InspectionError) as error:
        raise errors.BundleRefused(str(error), field="files") from error
    for name, part in parts.items():
        _require_part(name, part, model_slug)


def keep_bundle(version: ModelVersion, files: Sequence[ExtraFile], parts: Mapping[str, ModelVersion]) -> None:
    """The rows, in the transaction that makes the version."""
    VersionFile.objects.bulk_create(
        VersionFile(
            version=version,
            path=file.path,
            role=file.role,
            media_type=media_type(file.path),
            artifact=file.upload.artifact,
        )
        for file in files
    )
    VersionPart.objects.bulk_create(VersionPart(version=version, name=name, part=part) for name, part in parts.items())


def copy_bundle(version: ModelVersion, made: ModelVersion) -> None:
    """Give a rebuilt version what the one before held. Raises `VersionYanked` for a part that was yanked since."""
    for row in version.parts.select_related("part__model"):
        _require_in_use(row.name, row.part)
    VersionFile.objects.bulk_create(
        VersionFile(version=made, path=row.path, role=row.role, media_type=row.media_type, artifact=row.artifact)
        for row in version.files.select_related("artifact")
    )
    VersionPart.objects.bulk_create(
        VersionPart(version=made, name=row.name, part=row.part) for row in version.parts.all()
    )


def told(version: ModelVersion) -> dict[str, Any]:
    """For the audit log; nothing of what there is not."""
    files = {file.path: file.artifact.sha256 for file in version.files.select_related("artifact")}
    parts = {row.name: str(row.part) for row in version.parts.select_related("part__model")}
    return {name: value for name, value in (("files", files), ("parts", parts)) if value}


def _require_part(name: str, part: ModelVersion, model_slug: str) -> None:
    """What a part gives is fixed: it is converted, it is another model's, and it has no parts itself."""
    if part.model.slug == model_slug:
        raise errors.BundleRefused(f"expected another model's version as part {name}, got {part}", field="parts")
    if part.parts.exists():
        raise errors.BundleRefused(f"expected a version without parts as part {name}, got {part}", field="parts")
    _require_in_use(name, part)
    open_jobs = part.jobs.filter(state__in=UNFINISHED).values_list("recipe", flat=True)
    if open_jobs:
        raise errors.PartUnfinished(f"expected {part} to be converted, still open: {', '.join(open_jobs)}")
    if not part.variants.exists():
        raise errors.BundleRefused(f"expected a version with variants as part {name}, got {part}", field="parts")


def _require_in_use(name: str, part: ModelVersion) -> None:
    if part.yanked_at is not None:
        raise errors.VersionYanked(f"expected a version in use as part {name}, got {part}, which is yanked")
