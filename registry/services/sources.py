"""What uploaded files say of themselves, with the refusals that callers understand."""

from collections.abc import Mapping

from registry import errors, inspection
from registry.blob_store import blob_store
from registry.models import Artifact, Upload


def inspect_source(upload: Upload) -> inspection.SourceInspection:
    """What a source model says of itself. Raises `SourceRefused` with what is wrong with it."""
    return inspect_artifact(upload.artifact, upload.file_name)


def inspect_artifact(artifact: Artifact, file_name: str) -> inspection.SourceInspection:
    try:
        with blob_store().local_file(artifact.sha256) as path:
            return inspection.inspect_source(path, file_name)
    except inspection.InspectionError as error:
        raise errors.SourceRefused(f"{file_name}: {error}", field="source") from error


def inspect_evaluation_set(
    upload: Upload, *, field: str = "evaluation_set"
) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array. Raises `SourceRefused` with what is wrong with the file."""
    try:
        with blob_store().local_file(upload.artifact.sha256) as path:
            return inspection.inspect_evaluation_set(path)
    except inspection.InspectionError as error:
        raise errors.SourceRefused(f"{upload.file_name}: {error}", field=field) from error
