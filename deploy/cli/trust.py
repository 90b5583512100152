"""`aerogram trust`: ceremonies. What makes and signs roots works on files alone, on a machine without a network."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from tuf.api.metadata import Metadata, Root, Targets

from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, offline_verb, verb
from distribution.trust import ceremony
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, days_left
from distribution.trust.signers import make_key_file, signer_from_uri

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
PASSPHRASE = "AEROGRAM_PASSPHRASE"  # noqa: S105 - the name of a variable
passphrase_file = click.option("--passphrase-file", type=EXISTING, help=f"Or the variable {PASSPHRASE}, or asked for.")


@cli.group()
def trust() -> None:
    """Root of trust: keys, ceremonies, status (docs/trust.md)."""


@trust.command()
@click.argument("path", type=FILE)
@passphrase_file
@click.option("--plain", is_flag=True, help="Without a passphrase: for tests, or a disk that is encrypted itself.")
@offline_verb
def key(*, application: str, path: Path, passphrase_file: Path | None, plain: bool, as_json: bool) -> Any:  # noqa: ARG001
    """Make a private key at PATH, and its public half beside it in PATH.pub.json."""
    passphrase = "" if plain else _passphrase(f"New passphrase of {path}", passphrase_file, confirm=True)
    if not plain and not passphrase:
        raise click.UsageError("expected a passphrase, or --plain")
    made = make_key_file(path, passphrase)
    public = path.with_name(f"{path.name}.pub.json")
    public.write_text(json.dumps(ceremony.key_document(made), indent=1))
    if not as_json:
        console.print(f"Private key {path}, keep it. Public key {public}, give it to whoever prepares the root.")
    return ceremony.key_document(made)


@trust.command()
@click.argument("path", type=FILE)
@click.option("--root-key", "root_keys", type=EXISTING, multiple=True, required=True, help="Public; several times.")
@click.option("--threshold", type=int, default=2, show_default=True, help="How many of the root keys must sign.")
@click.option("--targets-key", "targets_keys", type=EXISTING, multiple=True, help="Public; else as the server says.")
@click.option("--targets-threshold", type=int, default=1, show_default=True)
@click.option("--server-keys", type=EXISTING, required=True, help="From `aerogram trust keys`.")
@click.option("--days", type=click.IntRange(1, 1096), default=365, show_default=True)
@offline_verb
def init(
    *,
    application: str,
    path: Path,
    root_keys: tuple[Path, ...],
    threshold: int,
    targets_keys: tuple[Path, ...],
    targets_threshold: int,
    server_keys: Path,
    days: int,
    as_json: bool,
) -> Any:
    """Prepare root 1 of an application that has none, unsigned, at PATH."""
    known = ceremony.public_keys(server_keys.read_bytes())
    of_targets = _read_keys(targets_keys) or [known[TARGETS]] if TARGETS in known or targets_keys else []
    if not of_targets or not {SNAPSHOT, TIMESTAMP} <= set(known):
        raise ceremony.DocumentRefused(f"expected keys of targets, snapshot and timestamp, got {', '.join(known)}")
    holders = {
        ROOT: ceremony.Holders(_read_keys(root_keys), threshold),
        TARGETS: ceremony.Holders(of_targets, targets_threshold),
        SNAPSHOT: ceremony.Holders([known[SNAPSHOT]]),
        TIMESTAMP: ceremony.Holders([known[TIMESTAMP]]),
    }
    root = ceremony.new_root(application, holders, _now(), days)
    _write_new(path, root)
    return _show(root, None, as_json=as_json)


@trust.command()
@click.argument("path", type=EXISTING)
@click.option("--output", type=FILE, required=True, help="Where the next root goes, unsigned.")
@click.option("--role", type=click.Choice(ceremony.TOP_ROLES), help="Whose keys change; without it only the expiry.")
@click.option("--add", "added", type=EXISTING, multiple=True, help="A public key.")
@click.option("--remove", "removed", multiple=True, help="The beginning of a key's id.")
@click.option("--threshold", type=int)
@click.option("--server-keys", type=EXISTING, help="Take keys of snapshot and timestamp from `aerogram trust keys`.")
@click.option("--days", type=click.IntRange(1, 1096), default=365, show_default=True)
@offline_verb
def rotate(
    *,
    application: str,
    path: Path,
    output: Path,
    role: str | None,
    added: tuple[Path, ...],
    removed: tuple[str, ...],
    threshold: int | None,
    server_keys: Path | None,
    days: int,
    as_json: bool,
) -> Any:
    """Prepare the root after the one at PATH: other keys for a role, or a later expiry."""
    current = ceremony.read(path.read_bytes(), Root).signed
    ceremony.refuse_other_application(current, application)
    changes = {}
    if server_keys is not None:
        known = ceremony.public_keys(server_keys.read_bytes())
        changes = {name: ceremony.Holders([known[name]]) for name in (SNAPSHOT, TIMESTAMP) if name in known}
    if role is not None:
        changes[role] = ceremony.changed_holders(
            ceremony.holders_of(current, role), add=_read_keys(added), remove=removed, threshold=threshold
        )
    root = ceremony.next_root(current, changes, _now(), days)
    _write_new(output, root)
    return _show(root, current, as_json=as_json)


@trust.command()
@click.argument("path", type=EXISTING)
@click.option("--key", "uri", required=True, help="A private key file, or awskms:<key>.")
@click.option("--previous", type=EXISTING, help="The root before: its keys must sign the next one too.")
@click.option("--root", "above", type=EXISTING, help="For targets: the root that names the keys.")
@passphrase_file
@offline_verb
def sign(
    *,
    application: str,
    path: Path,
    uri: str,
    previous: Path | None,
    above: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> Any:
    """Add one signature to the root, or to the targets, at PATH. Look at it first: `trust status PATH`."""
    document = _read_any(path)
    before = ceremony.read(previous.read_bytes(), Root).signed if previous else None
    if isinstance(document.signed, Root):
        ceremony.refuse_other_application(document.signed, application)
        allowed = ceremony.root_signers(document.signed, before)
    else:
        allowed = _targets_signers(above)
    signer = private_signer(uri, passphrase_file)
    keyid = ceremony.sign(document, signer, allowed=allowed or {signer.public_key.keyid})
    path.write_bytes(document.to_bytes(ceremony.READABLE))
    if not as_json:
        console.print(f"Signed {path} with {keyid}.")
    return {"keyid": keyid, "signatures": sorted(document.signatures)}


@trust.command()
@click.argument("path", type=EXISTING, required=False)
@click.option("--previous", type=EXISTING, help="The root before.")
@click.pass_context
def status(context: click.Context, path: Path | None, previous: Path | None) -> None:
    """Roles, keys, thresholds, days to expiry and missing signatures: of a root at PATH, or of the server."""
    if path is None:
        context.invoke(_status_of_server)
    else:
        context.invoke(_status_of_file, path=path, previous=previous)


@offline_verb
def _status_of_file(*, application: str, path: Path, previous: Path | None, as_json: bool) -> Any:
    root = ceremony.read(path.read_bytes(), Root)
    ceremony.refuse_other_application(root.signed, application)
    before = ceremony.read(previous.read_bytes(), Root).signed if previous else None
    return _show(root, before, as_json=as_json)


@verb
def _status_of_server(server: ControlPlane, *, as_json: bool) -> Any:
    answer = server.trust_status()
    if not as_json:
        table = Table("role", "version", "keys", "threshold", "days left")
        for row in answer["roles"]:
            keyids = "\n".join(keyid[:16] for keyid in row["keyids"])
            table.add_row(row["role"], str(row["version"]), keyids, str(row["threshold"]), str(row["days_left"]))
        console.print(table)
        for warning in answer["warnings"]:
            console.print(f"[yellow]{warning}[/yellow]")
    return answer


@trust.command("keys")
@click.option("--output", type=FILE, help="Write them here, for `trust init` and `trust rotate`.")
@verb
def server_keys(server: ControlPlane, *, output: Path | None, as_json: bool) -> Any:
    """Ask the server for the public keys it holds or was told."""
    answer = server.trust_keys()
    if output:
        output.write_text(json.dumps(answer, indent=1))
    elif not as_json:
        click.echo(json.dumps(answer, indent=1))
    return answer


@trust.command("tell-key")
@click.argument("role")
@click.argument("path", type=EXISTING)
@verb
def tell_key(server: ControlPlane, *, role: str, path: Path, as_json: bool) -> Any:
    """Tell the server the public key of ROLE: targets, or models-<model> to delegate that model."""
    answer = server.tell_key(role, json.loads(path.read_bytes()))
    if not as_json:
        console.print(f"{role}: {answer['keys'][role]['keyid']}")
    return answer


@trust.command("export")
@click.argument("path", type=FILE)
@verb
def export_root(server: ControlPlane, *, path: Path, as_json: bool) -> Any:
    """Write the server's present root to PATH."""
    answer = server.root()
    path.write_text(json.dumps(answer, indent=1))
    if not as_json:
        console.print(f"Root {answer['signed']['version']} in {path}.")
    return answer


@trust.command("import")
@click.argument("path", type=EXISTING)
@click.option("--targets", "targets_path", type=EXISTING, help="Targets signed by a key that only this root names.")
@verb
def import_root(server: ControlPlane, *, path: Path, targets_path: Path | None, as_json: bool) -> Any:
    """Bring the server the next root, once enough have signed."""
    targets = json.loads(targets_path.read_bytes()) if targets_path else None
    answer = server.import_root(json.loads(path.read_bytes()), targets)
    if not as_json:
        console.print(f"Root {answer['signed']['version']} is accepted and published.")
    return answer


def _show(root: Metadata[Root], previous: Root | None, *, as_json: bool) -> dict[str, Any]:
    """Tell what a root says and who must still sign it."""
    signings = [ceremony.signing_state(root, root.signed, ROOT, "its own keys")]
    if previous is not None:
        signings.append(ceremony.signing_state(root, previous, ROOT, f"root {previous.version}"))
    left = days_left(root.signed.expires, _now())
    if not as_json:
        _print_root(root.signed, left, signings)
    return {
        "version": root.signed.version,
        "days_left": left,
        "roles": {
            name: {"keyids": role.keyids, "threshold": role.threshold} for name, role in root.signed.roles.items()
        },
        "signatures": [
            {"by": item.by, "threshold": item.threshold, "signed": item.signed, "missing": item.missing}
            for item in signings
        ],
    }


def _print_root(root: Root, left: float, signings: list[ceremony.Signing]) -> None:
    console.print(f"Root {root.version}, expires in {left} days ({root.expires:%Y-%m-%d})")
    table = Table("role", "threshold", "keys")
    for name in ceremony.TOP_ROLES:
        table.add_row(name, str(root.roles[name].threshold), "\n".join(root.roles[name].keyids))
    console.print(table)
    for item in signings:
        missing = "".join(f"\n  {keyid}" for keyid in item.missing)
        told = f"{item.still_needed} more signatures of{missing}" if item.still_needed else "enough signatures"
        console.print(f"By {item.by}: {len(item.signed)} of {item.threshold}, {told}")


def private_signer(uri: str, passphrase_file: Path | None) -> Any:
    """A path is tried with a passphrase if its file says that it is encrypted."""
    if ":" in uri or b"ENCRYPTED" not in Path(uri).read_bytes():
        return signer_from_uri(uri, ask=lambda prompt: _passphrase(prompt, passphrase_file))
    absolute = Path(uri).resolve().as_uri().removeprefix("file:")
    return signer_from_uri(f"file+encrypted:{absolute}", ask=lambda prompt: _passphrase(prompt, passphrase_file))


def _passphrase(prompt: str, file: Path | None, *, confirm: bool = False) -> str:
    if file is not None:
        return file.read_text().strip()
    if PASSPHRASE in os.environ:
        return os.environ[PASSPHRASE]
    asked: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return asked


def _targets_signers(above: Path | None) -> set[str]:
    """Empty when no root was given: then any key may sign, and the server judges."""
    if above is None:
        return set()
    root: Root = ceremony.read(above.read_bytes(), Root).signed
    return set(root.roles[TARGETS].keyids)


def _read_keys(paths: tuple[Path, ...]) -> list[Any]:
    return [key for path in paths for key in ceremony.public_keys(path.read_bytes()).values()]


def _read_any(path: Path) -> Metadata[Any]:
    content = path.read_bytes()
    try:
        return ceremony.read(content, Root)
    except ceremony.DocumentRefused:
        return ceremony.read(content, Targets)


def _write_new(path: Path, document: Metadata[Any]) -> None:
    with path.open("xb") as stream:
        stream.write(document.to_bytes(ceremony.READABLE))


def _now() -> datetime:
    return datetime.now(UTC)
