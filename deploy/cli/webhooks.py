"""`aerogram webhook`: who is told of events, and what was sent."""

from typing import Any

import click

from deploy.cli import views
from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, verb
from registry.webhooks.messages import EVENT_TYPES

WEBHOOK_COLUMNS = ("name", "url", "event_types", "disabled_reason")
DELIVERY_COLUMNS = ("id", "event_type", "subject", "state", "attempts", "answer_status", "created_at")
events_option = click.option(
    "--event",
    "event_types",
    type=click.Choice(list(EVENT_TYPES)),
    metavar="TYPE",
    multiple=True,
    help=f"What to be told of, several times, all of it without: {', '.join(EVENT_TYPES)}.",
)


@cli.group()
def webhook() -> None:
    """Tell other systems what happened."""


@webhook.command("list")
@verb
def list_webhooks(server: ControlPlane, *, as_json: bool) -> Any:
    """List webhooks."""
    rows = server.webhooks()
    if not as_json:
        console.print(views.plain_table(WEBHOOK_COLUMNS, rows))
    return rows


@webhook.command("create")
@click.argument("name")
@click.argument("url")
@events_option
@verb
def create_webhook(server: ControlPlane, *, name: str, url: str, event_types: tuple[str, ...], as_json: bool) -> Any:
    """Tell URL of events. The secret that signs them is printed this once."""
    made = server.create_webhook(name, url, list(event_types))
    if not as_json:
        click.echo(made["secret"])
    return made


@webhook.command("change")
@click.argument("name")
@click.argument("url")
@events_option
@verb
def change_webhook(server: ControlPlane, *, name: str, url: str, event_types: tuple[str, ...], as_json: bool) -> Any:
    """Send to URL and of these events instead; enables a webhook that was disabled."""
    changed = server.change_webhook(name, url, list(event_types))
    if not as_json:
        console.print(f"{name} goes to {url}.")
    return changed


@webhook.command("disable")
@click.argument("name")
@click.option("--reason", required=True, help="Why; for those who see the list.")
@verb
def disable_webhook(server: ControlPlane, *, name: str, reason: str, as_json: bool) -> Any:
    """Tell NAME nothing any more, nor what waits, until `webhook change`."""
    disabled = server.act_on_webhook(name, "disable", {"reason": reason})
    if not as_json:
        console.print(f"{name} is told nothing until it is changed.")
    return disabled


@webhook.command("delete")
@click.argument("name")
@verb
def delete_webhook(server: ControlPlane, *, name: str, as_json: bool) -> Any:
    """Tell NAME nothing any more, and forget what was sent to it."""
    server.delete_webhook(name)
    if not as_json:
        console.print(f"Deleted the webhook {name}.")


@webhook.command("rotate-secret")
@click.argument("name")
@verb
def rotate_secret(server: ControlPlane, *, name: str, as_json: bool) -> Any:
    """Make a new secret, printed this once. For a day messages are signed with the former one too."""
    made = server.act_on_webhook(name, "rotate-secret")
    if not as_json:
        click.echo(made["secret"])
    return made


@webhook.command("test")
@click.argument("name")
@verb
def send_test(server: ControlPlane, *, name: str, as_json: bool) -> Any:
    """Send a message of the type webhook.test."""
    made = server.act_on_webhook(name, "test")
    if not as_json:
        console.print(f"Delivery {made['id']} is on its way: aerogram webhook deliveries {name}")
    return made


@webhook.command("deliveries")
@click.argument("name")
@click.option("--state", type=click.Choice(["waiting", "delivered", "failed"]))
@verb
def deliveries(server: ControlPlane, *, name: str, state: str | None, as_json: bool) -> Any:
    """List what was sent to NAME, newest first."""
    rows = server.webhook_deliveries(name, state)
    if not as_json:
        console.print(views.plain_table(DELIVERY_COLUMNS, rows))
    return rows


@webhook.command("redeliver")
@click.argument("name")
@click.argument("delivery", type=int)
@verb
def redeliver(server: ControlPlane, *, name: str, delivery: int, as_json: bool) -> Any:
    """Send a message again, with the same id."""
    row = server.act_on_webhook(name, f"deliveries/{delivery}/redeliver")
    if not as_json:
        console.print(f"Delivery {delivery} is on its way again.")
    return row
