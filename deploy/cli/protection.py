"""Verbs of protection: which models are published encrypted, who may have keys, and who had them."""

from pathlib import Path
from typing import Any

import click

from deploy.cli import views
from deploy.cli.client import ControlPlane
from deploy.cli.conversions import json_of
from deploy.cli.group import cli, console, verb

KEY = ("key_id", "model", "variants", "created_at", "revoked_at", "revoked_by")
CALL = ("at", "key_id", "model", "channel", "unit_key", "attestation", "outcome", "reason")


@cli.command()
@click.argument("model")
@click.option("--on/--off", "is_on", default=None, help="For versions first released from now on.")
@click.option("--reason", default="")
@verb
def protect(server: ControlPlane, *, model: str, is_on: bool | None, reason: str, as_json: bool) -> Any:
    """Show whether versions of MODEL are published encrypted, or change it."""
    answer = server.protection(model, is_on, reason)
    if not as_json:
        console.print(
            f"{model}: versions first released from now on are {'encrypted' if answer['is_on'] else 'plain'}."
        )
    return answer


@cli.command()
@click.option(
    "--set",
    "settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file of members to change; see docs/protection.md.",
)
@verb
def attestation(server: ControlPlane, *, settings: Path | None, as_json: bool) -> Any:
    """Show what an installation must prove to be given a key, or change it."""
    answer = server.attestation(json_of(settings) if settings else {})
    if not as_json:
        for name, value in answer.items():
            console.print(f"{name}: {value}")
    return answer


@cli.command("content-keys")
@verb
def content_keys(server: ControlPlane, *, as_json: bool) -> Any:
    """List content keys and what they open; never the keys themselves."""
    answer = server.content_keys()
    if not as_json:
        console.print(views.plain_table(KEY, answer))
    return answer


@cli.command("revoke-key")
@click.argument("key_id")
@click.option("--reason", required=True)
@verb
def revoke_key(server: ControlPlane, *, key_id: str, reason: str, as_json: bool) -> Any:
    """Give a content key to nobody any more, for good."""
    answer = server.revoke_key(key_id, reason)
    if not as_json:
        console.print(f"Content key {key_id} of {answer['model']} is revoked.")
    return answer


@cli.command("key-calls")
@click.option("--outcome", help="Only these: released, or a refusal's code.")
@verb
def key_calls(server: ControlPlane, *, outcome: str | None, as_json: bool) -> Any:
    """List which installations asked for keys, newest first."""
    answer = server.key_calls(outcome)
    if not as_json:
        console.print(views.plain_table(CALL, answer))
    return answer
