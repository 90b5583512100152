"""The publisher's verbs: sign a release on another machine, raise the minimum, give an app what it ships with."""

import json
import zipfile
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from tuf.api.metadata import Metadata, TargetFile, Targets

from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, offline_verb, verb
from deploy.cli.trust import EXISTING, FILE, passphrase_file, private_signer
from distribution.trust import ceremony
from distribution.trust.roles import TARGETS
from registry.digests import sha256_of_file


@cli.group("sign-release")
def sign_release() -> None:
    """Sign the publisher's targets where no server is: export, sign elsewhere, import."""


@sign_release.command("export")
@click.argument("path", type=FILE)
@click.option("--role", default=TARGETS, show_default=True, help="Or models-<model>.")
@verb
def export_targets(server: ControlPlane, *, path: Path, role: str, as_json: bool) -> Any:
    """Write what the publisher should sign next to PATH."""
    answer = server.pending_targets(role)
    path.write_text(json.dumps(answer, indent=1))
    if not as_json:
        console.print(f"{role} {answer['signed']['version']}, {len(answer['signed']['targets'])} files, in {path}.")
    return answer


@sign_release.command("sign")
@click.argument("path", type=EXISTING)
@click.option("--key", "uri", required=True, help="A private key file, or awskms:<key>.")
@click.option("--present", type=EXISTING, help="The targets signed last: only differences are shown.")
@click.option("--files", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own copies.")
@click.option("--without", multiple=True, help="Leave out files whose path begins so: their release waits.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@passphrase_file
@offline_verb
def sign_targets(
    *,
    application: str,  # noqa: ARG001
    path: Path,
    uri: str,
    present: Path | None,
    files: Path | None,
    without: tuple[str, ...],
    yes: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> Any:
    """Look at the targets at PATH, compare them with your own copies, and add your signature."""
    document = ceremony.read(path.read_bytes(), Targets)
    _leave_out(document, without)
    known = ceremony.read(present.read_bytes(), Targets).signed.targets if present else {}
    new = {name: target for name, target in document.signed.targets.items() if known.get(name) != target}
    if files is not None:
        _require_copies(new, files)
    if not as_json:
        _print_files(document.signed, new, checked=files is not None)
    if not yes:
        click.confirm(f"Sign these {len(new)} files?", abort=True, err=True)
    signer = private_signer(uri, passphrase_file)
    keyid = ceremony.sign(document, signer, allowed={signer.public_key.keyid})
    path.write_bytes(document.to_bytes(ceremony.READABLE))
    return {"keyid": keyid, "version": document.signed.version, "files": sorted(new)}


@sign_release.command("import")
@click.argument("path", type=EXISTING)
@click.option("--role", default=TARGETS, show_default=True)
@verb
def import_targets(server: ControlPlane, *, path: Path, role: str, as_json: bool) -> Any:
    """Bring the server the signed targets at PATH."""
    answer = server.import_targets(role, json.loads(path.read_bytes()))
    if not as_json:
        console.print(f"{role} {answer['signed']['version']} is accepted and published.")
    return answer


@cli.command("raise-minimum")
@click.argument("model")
@click.argument("value", type=int)
@click.option("--reason", required=True)
@verb
def raise_minimum(server: ControlPlane, *, model: str, value: int, reason: str, as_json: bool) -> Any:
    """Forbid files of MODEL released before counter VALUE, for ever. The publisher signs it."""
    answer = server.raise_minimum(model, value, reason)
    if not as_json:
        console.print(f"{model}: devices will refuse release counters below {value} once the publisher has signed.")
    return answer


@cli.command()
@click.argument("model")
@click.option("--channel", default="production", show_default=True)
@click.option("--variant", help="One alone; else all of the present release.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder, or a name ending in .zip.")
@verb
def embed(server: ControlPlane, *, model: str, channel: str, variant: str | None, output: Path, as_json: bool) -> Any:
    """Write what an app with MODEL inside ships with: root.json, embedded.json and the signed manifests."""
    answer = server.embedded(channel, model, variant)
    files = {"root.json": answer["root"]}
    for name, facts in answer["variants"].items():
        files[f"{model}.{name}.manifest.json"] = facts["manifest"]
    files["embedded.json"] = _embedded_document(answer)
    _write_all(output, {name: json.dumps(content, indent=1).encode() for name, content in files.items()})
    if not as_json:
        console.print(f"{len(files)} files in {output}.")
    return files["embedded.json"]


def _embedded_document(answer: dict[str, Any]) -> dict[str, Any]:
    """What the SDK is told of a model inside the app: which bytes, which counter, which inputs and outputs."""
    names = ("application", "channel", "model", "targets_version", "minimum_release_counter")
    variants = {
        name: {key: value for key, value in facts.items() if key != "manifest"}
        for name, facts in answer["variants"].items()
    }
    return {name: answer[name] for name in names} | {"variants": variants}


def _write_all(output: Path, files: dict[str, bytes]) -> None:
    """Into a folder, or into a zip that is equal for equal content."""
    if output.suffix == ".zip":
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(content)


def _leave_out(document: Metadata[Targets], prefixes: tuple[str, ...]) -> None:
    for path in list(document.signed.targets):
        if path.startswith(prefixes or ("\0",)):
            del document.signed.targets[path]
            document.signatures.clear()


def _require_copies(targets: dict[str, TargetFile], folder: Path) -> None:
    """Each file must be somewhere below the folder, whatever its name. Raises `DocumentRefused`."""
    found = {sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}
    missing = [name for name, file in targets.items() if (file.hashes["sha256"], file.length) not in found]
    if missing:
        raise ceremony.DocumentRefused(f"expected your own copy of every file, found none of {missing[0]}")


def _print_files(targets: Targets, new: dict[str, TargetFile], *, checked: bool) -> None:
    table = Table("file", "bytes", "sha256", "counter", "minimum")
    for name, target in sorted(new.items()):
        custom = target.custom or {}
        counters = str(custom.get("release_counter")), str(custom.get("minimum_release_counter"))
        table.add_row(name, str(target.length), target.hashes["sha256"][:16], *counters)
    console.print(f"Targets {targets.version}, {'compared with your copies' if checked else 'not compared'}")
    console.print(table)
    for name, role in ((targets.delegations.roles if targets.delegations else None) or {}).items():
        console.print(f"delegates to {name}: {', '.join(role.keyids)}")
