"""`aerogram`: push, look, publish and roll back from a terminal or a pipeline.

Exit codes: 0 done · 1 refused by the server · 2 wrong usage · 3 server not reachable · 4 waited too long ·
5 a conversion did not succeed. With `--json` an error is JSON too, on stderr: {"code", "detail"}.
"""

import json
from pathlib import Path
from typing import Any

import click

from deploy.cli import (
    administration,
    bundles,
    channels,
    conversions,
    designs,
    device_classes,
    experiments,
    importing,
    lists,
    protection,
    publisher,
    simulate,
    slices,
    tree,
    trust,
    views,
    webhooks,
)
from deploy.cli.client import ApiError, ControlPlane
from deploy.cli.group import NOT_CONVERTED, cli, console, verb

__all__ = [
    "administration",
    "channels",
    "cli",
    "conversions",
    "designs",
    "device_classes",
    "experiments",
    "importing",
    "lists",
    "main",
    "protection",
    "publisher",
    "simulate",
    "slices",
    "tree",
    "trust",
    "webhooks",
]


@cli.command()
@click.argument("model")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--evaluation-set", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An .npz file.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="One label a line.")
@click.option("--training-set", type=conversions.readable, help="An .npz file: what pruning trains on again.")
@click.option("--metadata", type=conversions.readable, help="A JSON file: names, normalisation, author.")
@click.option(
    "--file", "files", multiple=True, callback=bundles.extra_files, metavar="ROLE=FILE[:PATH]", help=bundles.FILE_HELP
)
@click.option(
    "--part", "parts", multiple=True, callback=bundles.parts, metavar="NAME=MODEL:VERSION", help=bundles.PART_HELP
)
@click.option("--signature", "source_signature", default="", help="Which signature of a SavedModel.")
@click.option("--recipe", "recipes", multiple=True, help="Only these; may be given several times.")
@click.option("--profile", help="The recipes of this profile of the model.")
@click.option("--notes", default="")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the conversions end.")
@click.option("--timeout", "timeout_seconds", default=1800.0, show_default=True)
@verb
def push(
    server: ControlPlane,
    *,
    model: str,
    source: Path,
    evaluation_set: Path | None,
    labels: Path | None,
    training_set: Path | None,
    metadata: Path | None,
    files: tuple[tuple[str, Path, str], ...],
    parts: tuple[dict[str, Any], ...],
    source_signature: str,
    recipes: tuple[str, ...],
    profile: str | None,
    notes: str,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Register SOURCE (.keras, SavedModel .zip, .tflite, .onnx or Core ML) as a new version of MODEL and convert it."""
    sent = [source, evaluation_set, training_set, *(file for _, file, _ in files)]
    with views.transfer(console, quiet=as_json, files=sent) as on_bytes:
        version = server.push(
            model=model,
            source=source,
            evaluation_set=evaluation_set,
            labels=labels.read_text().splitlines() if labels else None,
            notes=notes,
            recipes=list(recipes) or None,
            profile=profile,
            metadata=conversions.json_of(metadata) if metadata else None,
            training_set=training_set,
            source_signature=source_signature,
            files=files,
            parts=parts,
            on_bytes=on_bytes,
        )
    if not wait:
        return version
    version = views.follow_conversions(
        console, server, model, version["number"], timeout_seconds=timeout_seconds, quiet=as_json
    )
    if not as_json:
        console.print(views.variant_table(version, server.variants(model, version["number"])))
    if not version["variants"]:
        raise SystemExit(NOT_CONVERTED)
    return version


@cli.command()
@verb
def models(server: ControlPlane, *, as_json: bool) -> Any:
    """List the application's models."""
    answer = server.models()
    if not as_json:
        console.print(views.model_table(answer))
    return answer


@cli.command()
@click.argument("model")
@verb
def versions(server: ControlPlane, *, model: str, as_json: bool) -> Any:
    """List the versions of MODEL."""
    answer = server.versions(model)
    if not as_json:
        console.print(views.version_table(answer))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@verb
def variants(server: ControlPlane, *, model: str, version: int, as_json: bool) -> Any:
    """Show what each conversion of a version cost: bytes, accuracy, parity, latency."""
    answer = server.variants(model, version)
    if not as_json:
        console.print(views.variant_table(server.version(model, version), answer))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--channel", default="production", show_default=True)
@click.option("--reason", default="")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until devices get it.")
@click.option("--timeout", "timeout_seconds", default=60.0, show_default=True)
@verb
def publish(
    server: ControlPlane,
    *,
    model: str,
    version: int,
    channel: str,
    reason: str,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Release VERSION of MODEL to a channel."""
    release = server.publish(channel, model, version, reason)
    return _released(server, release, wait=wait, timeout_seconds=timeout_seconds, as_json=as_json)


@cli.command()
@click.argument("model")
@click.option("--to", "to_version", type=int, help="The version to go back to; without it, the one before.")
@click.option("--channel", default="production", show_default=True)
@click.option("--reason", required=True)
@click.option("--wait/--no-wait", default=True, show_default=True)
@click.option("--timeout", "timeout_seconds", default=60.0, show_default=True)
@verb
def rollback(
    server: ControlPlane,
    *,
    model: str,
    to_version: int | None,
    channel: str,
    reason: str,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Make an earlier version of MODEL current again."""
    release = server.roll_back(channel, model, reason, to_version)
    return _released(server, release, wait=wait, timeout_seconds=timeout_seconds, as_json=as_json)


@cli.command()
@click.argument("model")
@click.option("--channel", default="production", show_default=True)
@click.option("--reason", required=True)
@verb
def kill(server: ControlPlane, *, model: str, channel: str, reason: str, as_json: bool) -> Any:
    """Send a channel's devices back to the model embedded in their app, at once."""
    switch = server.kill(channel, model, reason)
    if not as_json:
        console.print(f"Kill switch engaged for {model} on {channel}.")
    return switch


@cli.command()
@click.argument("model")
@click.option("--channel", default="production", show_default=True)
@click.option("--reason", required=True)
@verb
def lift(server: ControlPlane, *, model: str, channel: str, reason: str, as_json: bool) -> Any:
    """Lift the kill switch of MODEL; where others must approve it, ask for that."""
    try:
        server.lift(channel, model, reason)
    except ApiError as error:
        if error.code != "approval_required":
            raise
        answer = server.request_lift(channel, model, reason)
        if not as_json:
            console.print(f"{channels.told_of(answer)}; somebody else runs: aerogram approve {answer['id']}")
        return answer
    if not as_json:
        console.print(f"Kill switch lifted for {model} on {channel}.")
    return None


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--reason", required=True)
@verb
def yank(server: ControlPlane, *, model: str, version: int, reason: str, as_json: bool) -> Any:
    """Withdraw VERSION of MODEL from new decisions."""
    answer = server.yank(model, version, reason)
    if not as_json:
        console.print(f"{model} version {version} is yanked.")
    return answer


@cli.command()
@click.option("--channel", default="production", show_default=True)
@verb
def releases(server: ControlPlane, *, channel: str, as_json: bool) -> Any:
    """List the releases of a channel, newest first."""
    answer = server.releases(channel)
    if not as_json:
        console.print(views.release_table(answer))
    return answer


@cli.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it here for the app's build.")
@verb
def root(server: ControlPlane, *, output: Path | None, as_json: bool) -> Any:
    """Print the trust root that an app embeds."""
    answer = server.root()
    if output:
        output.write_text(json.dumps(answer))
    elif not as_json:
        click.echo(json.dumps(answer, indent=2))
    return answer


def _released(
    server: ControlPlane, release: dict[str, Any], *, wait: bool, timeout_seconds: float, as_json: bool
) -> dict[str, Any]:
    if wait:
        release |= server.wait_until_live(release["channel"], release["id"], timeout_seconds=timeout_seconds)
    if not as_json:
        views.print_warnings(console, release["warnings"])
        told = f"{release['model']} version {release['version']} on {release['channel']}: {release['state']}"
        console.print(told + (f" in revision {release['live_revision']}" if release["live_revision"] else ""))
    return release


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
