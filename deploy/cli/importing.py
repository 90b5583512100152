"""`aerogram import firebase`: what a project had in Firebase ML, brought here. Safe to run again."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from rich.table import Table

from deploy.cli.client import ApiError, ControlPlane, Unreachable
from deploy.cli.group import REFUSED, TOO_LONG, cli, console, verb
from distribution.firebase.export import ExportedModel, ExportError, find_file, read_export
from registry.digests import read_chunks, sha256_of_file

POLL_SECONDS = 1.0


class FirebaseApi:
    """The Firebase-compatible admin API of one application."""

    def __init__(self, server: ControlPlane) -> None:
        self.server = server
        self.models = f"v1beta2/projects/{server.application}/models"

    def find(self, display_name: str) -> dict[str, Any] | None:
        answer = self.ask("GET", self.models, params={"filter": f"display_name = {display_name}"})
        return answer["models"][0] if answer["models"] else None

    def upload(self, path: Path, object_name: str) -> str:
        """Stream the file into the bucket; its `gs://` address."""
        bucket = self.server.application
        self.ask(
            "POST",
            f"upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": object_name},
            content=read_chunks(path),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)},
        )
        return f"gs://{bucket}/{object_name}"

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Raises ApiError with Google's word as its code."""
        try:
            response = self.server.http.request(method, f"{self.server.url}/{path}", **options)
        except httpx.HTTPError as error:
            raise Unreachable(self.server.url, error) from error
        if response.is_error:
            raise _refusal(response)
        document: dict[str, Any] = response.json()
        return document


@dataclass
class Row:
    """What is done, or would be, with one model. `action`: create, update, unchanged or missing_file."""

    display_name: str
    action: str
    changes: list[str]
    former_id: str
    model_id: str = ""
    sha256: str = ""
    detail: str = ""
    operation: str = ""


@cli.group("import")
def import_from() -> None:
    """Bring models here from another service."""


@import_from.command("firebase")
@click.argument("export", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--files",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the .tflite files are; else beside EXPORT.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until published models are at devices.")
@click.option("--timeout", "timeout_seconds", default=600.0, show_default=True)
@verb
def firebase(
    server: ControlPlane,
    *,
    export: Path,
    folder: Path | None,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Register the models of EXPORT (the admin API's list, as JSON) with names, tags, files and published state."""
    try:
        models = read_export(json.loads(export.read_bytes()))
    except (ExportError, ValueError, RecursionError) as error:
        raise ApiError(0, "export_refused", f"{export.name}: {error}") from error
    api = FirebaseApi(server)
    rows = [_bring(api, model, folder or export.parent, dry_run=dry_run) for model in models]
    if wait and not dry_run:
        _wait(api, rows, timeout_seconds)
    document = {"dry_run": dry_run, "models": [asdict(row) for row in rows]}
    if not as_json:
        console.print(_table(rows, dry_run=dry_run))
    code = _exit_code(rows)
    if code:
        if as_json:
            click.echo(json.dumps(document, indent=2))
        raise SystemExit(code)
    return document


def _bring(api: FirebaseApi, model: ExportedModel, folder: Path, *, dry_run: bool) -> Row:
    """Compare by digest, then do what is lacking."""
    row = Row(model.display_name, "unchanged", [], model.model_id)
    path = None
    if model.has_file:
        try:
            path = find_file(model, folder)
        except FileNotFoundError as error:
            row.action, row.detail = "missing_file", str(error)
            return row
        row.sha256 = sha256_of_file(path)[0]
    present = api.find(model.display_name)
    row.changes = list(_differences(model, row.sha256, present))
    if present is None:
        row.action = "create"
    elif row.changes:
        row.action = "update"
    row.model_id = _id(present) if present else ""
    if not dry_run and row.action != "unchanged":
        try:
            _do(api, model, path, row)
        except ApiError as error:
            if isinstance(error, Unreachable):
                raise
            row.detail = f"{error} ({error.code})"
    return row


def _differences(model: ExportedModel, sha256: str, present: dict[str, Any] | None) -> Iterator[str]:
    present = present or {}
    if sha256 and present.get("modelHash") != sha256:
        yield "tfliteModel"
    if list(model.tags) != present.get("tags", []):
        yield "tags"
    if model.published != present.get("state", {}).get("published", False):
        yield "state.published"


def _do(api: FirebaseApi, model: ExportedModel, path: Path | None, row: Row) -> None:
    """The file before it is published, and not before it is taken back: nothing wrong reaches devices in between."""
    if row.action == "update" and not model.published:
        _patch_state(api, model, row)
    body: dict[str, Any] = {"displayName": model.display_name, "tags": list(model.tags)}
    if path is not None and "tfliteModel" in row.changes:
        body["tfliteModel"] = {"gcsTfliteUri": api.upload(path, model.object_name or path.name)}
    if row.action == "create":
        row.model_id = _id(_result(row, api.ask("POST", api.models, json=body)))
    else:
        _patch(api, row, body, [change for change in row.changes if change != "state.published"])
    if model.published:
        _patch_state(api, model, row)


def _patch_state(api: FirebaseApi, model: ExportedModel, row: Row) -> None:
    if "state.published" in row.changes:
        _patch(api, row, {"state": {"published": model.published}}, ["state.published"])


def _patch(api: FirebaseApi, row: Row, body: dict[str, Any], mask: list[str]) -> None:
    if mask:
        path = f"{api.models}/{row.model_id}"
        _result(row, api.ask("PATCH", path, params={"updateMask": ",".join(mask)}, json=body))


def _result(row: Row, operation: dict[str, Any]) -> dict[str, Any]:
    """The model that an operation ended with; an operation under way is noted, to be waited for."""
    row.operation = "" if operation.get("done") else operation["name"]
    if "error" in operation:
        row.detail = operation["error"]["message"]
    response: dict[str, Any] = operation.get("response", {})
    error = response.get("state", {}).get("validationError")
    if error and row.sha256:
        row.detail = "; ".join([error["message"], *(inner["detail"] for inner in error.get("details", []))])
    return response


def _wait(api: FirebaseApi, rows: list[Row], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while open_rows := [row for row in rows if row.operation]:
        for row in open_rows:
            _result(row, api.ask("GET", f"v1beta2/{row.operation}"))
        if any(row.operation for row in open_rows):
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL_SECONDS)


def _exit_code(rows: list[Row]) -> int:
    if any(row.detail for row in rows):
        return REFUSED
    return TOO_LONG if any(row.operation for row in rows) else 0


def _table(rows: list[Row], *, dry_run: bool) -> Table:
    table = Table(title="What would be done" if dry_run else "What was done")
    for column in ("model", "action", "changed", "id in Firebase", "id here", "SHA-256", "told"):
        table.add_column(column)
    for row in rows:
        told = row.detail or ("not at devices yet" if row.operation else "")
        table.add_row(
            row.display_name, row.action, ", ".join(row.changes), row.former_id, row.model_id, row.sha256[:12], told
        )
    return table


def _id(model: dict[str, Any] | None) -> str:
    return str((model or {}).get("name", "")).rpartition("/")[2]


def _refusal(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        told = [error["message"], *(inner["detail"] for inner in error.get("details", []))]
        return ApiError(response.status_code, str(error["status"]), "; ".join(told))
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "unexpected_answer", f"HTTP {response.status_code} without a reason")
