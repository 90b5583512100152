"""Verbs of administrators: applications, channels, members, tokens."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, verb

role_option = click.Choice(["viewer", "editor", "releaser", "administrator"])


@cli.command("create-application")
@click.argument("slug")
@click.option("--name", help="The name that people read.")
@verb
def create_application(server: ControlPlane, *, slug: str, name: str | None, as_json: bool) -> Any:
    """Make an application."""
    answer = server.create_application(slug, name or slug)
    if not as_json:
        console.print(f"Made the application {slug}.")
    return answer


@cli.command("create-channel")
@click.argument("slug")
@verb
def create_channel(server: ControlPlane, *, slug: str, as_json: bool) -> Any:
    """Make a channel. Devices see it once the signer has delegated to it."""
    answer = server.create_channel(slug)
    if not as_json:
        console.print(f"Made the channel {slug}.")
    return answer


@cli.command("create-model")
@click.argument("slug")
@click.option("--name", default="", help="For people; without it, the slug.")
@verb
def create_model(server: ControlPlane, *, slug: str, name: str, as_json: bool) -> Any:
    """Make a model before its first push, to give it profiles and gates; a first push makes it too."""
    answer = server.create_model(slug, name)
    if not as_json:
        console.print(f"Made the model {slug}.")
    return answer


@cli.command()
@click.argument("user")
@click.argument("role", type=role_option)
@verb
def grant(server: ControlPlane, *, user: str, role: str, as_json: bool) -> Any:
    """Give USER a role in the application, in place of any other."""
    answer = server.grant(user, role)
    if not as_json:
        console.print(f"{user} is {role} of {server.application}.")
    return answer


@cli.command()
@click.argument("user")
@verb
def revoke(server: ControlPlane, *, user: str, as_json: bool) -> Any:
    """Take USER's role in the application away."""
    server.revoke(user)
    if not as_json:
        console.print(f"{user} has no role in {server.application} any more.")


@cli.command("issue-token")
@click.argument("name")
@click.option("--role", type=role_option, default="viewer", show_default=True, help="The most it may do.")
@click.option("--everywhere", is_flag=True, help="Not only in this application.")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True)
@verb
def issue_token(server: ControlPlane, *, name: str, role: str, everywhere: bool, days: int, as_json: bool) -> Any:
    """Make an API token of your own. It is printed this once."""
    answer = server.issue_token(
        name=name,
        role=role,
        application=None if everywhere else server.application,
        expires_at=datetime.now(UTC) + timedelta(days=days),
    )
    if not as_json:
        click.echo(answer["token"])
    return answer


@cli.command("revoke-token")
@click.argument("token_id", metavar="ID", type=int)
@verb
def revoke_token(server: ControlPlane, *, token_id: int, as_json: bool) -> Any:
    """Revoke one of your tokens."""
    server.revoke_token(token_id)
    if not as_json:
        console.print(f"Token {token_id} is revoked.")


@cli.group()
def unit() -> None:
    """Single installations."""


@unit.command("forget")
@click.argument("unit", metavar="UNIT")
@verb
def forget_unit(server: ControlPlane, *, unit: str, as_json: bool) -> Any:
    """Delete everything that is kept of the installation UNIT; `-` reads its id from stdin."""
    named = sys.stdin.read().strip() if unit == "-" else unit
    answer = server.write("POST", "units/forget", {"unit": named})
    if not as_json:
        console.print("Forgotten: " + ", ".join(f"{count} {name}" for name, count in answer.items()) + ".")
    return answer
