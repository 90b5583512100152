"""Rows of the admin API as its JSON documents."""

from typing import Any

from distribution.firebase import wire
from distribution.firebase.services import RECIPES
from distribution.models import FirebaseModel, FirebaseOperation
from registry.models import VariantFile


def model(row: FirebaseModel) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": row.name,
        "createTime": wire.microseconds(row.created_at),
        "updateTime": wire.microseconds(row.updated_at),
        "etag": row.etag,
        "displayName": row.display_name,
        "state": {"published": row.published},
    }
    if row.tags:
        document["tags"] = row.tags
    if row.gcs_uri:
        document["tfliteModel"] = {"gcsTfliteUri": row.gcs_uri}
    if row.version is not None:
        sha256, size_bytes = _file(row)
        document["modelHash"] = sha256
        document["tfliteModel"]["sizeBytes"] = str(size_bytes)
    else:
        document["state"]["validationError"] = row.validation_error or wire.rpc_status("INVALID_ARGUMENT", wire.NO_FILE)
    active = [operation(open_one) for open_one in row.operations.filter(done_at__isnull=True)]
    return document | ({"activeOperations": active} if active else {})


def operation(row: FirebaseOperation) -> dict[str, Any]:
    """With its name and metadata as long as it is not done, as clients demand; then with response or error."""
    document: dict[str, Any] = {
        "name": row.name,
        "metadata": {"@type": f"{wire.TYPE}ModelOperationMetadata", "name": row.model.name},
    }
    if row.done_at is None:
        return document | {"done": False}
    return document | {"done": True, **_result(row)}


def done(row: FirebaseModel) -> dict[str, Any]:
    """An operation that ended before it was given a name."""
    return {"done": True, "response": _response(row)}


def _result(row: FirebaseOperation) -> dict[str, Any]:
    return {"error": row.error} if row.error else {"response": _response(row.model)}


def _response(row: FirebaseModel) -> dict[str, Any]:
    return {"@type": f"{wire.TYPE}Model", **model(row)}


def _file(row: FirebaseModel) -> tuple[str, int]:
    """SHA-256 and size of what devices get: of the converted file once there is one, and of the upload before."""
    assert row.version is not None
    files = VariantFile.objects.filter(variant__version=row.version, variant__name__in=RECIPES, role="model")
    found = files.select_related("artifact").order_by("variant__name").first()
    artifact = found.artifact if found else row.version.source
    return artifact.sha256, artifact.size_bytes
