"""Verbs on a channel's own rules: requests and approvals, promotion, floors, pins, test devices."""

from datetime import datetime
from typing import Any

import click
import segno

from deploy.cli import views
from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, verb

channel_option = click.option("--channel", default="production", show_default=True)
REQUEST = ("id", "action", "model", "version", "state", "publish_at", "requested_by", "approved_by", "outcome")
PIN = ("id", "version", "label", "unit_key", "pinned_by")
DEVICE = ("id", "name", "invited_by", "expires_at", "enrolled_at")


def told_of(request: dict[str, Any]) -> str:
    what = f"{request['model']} version {request['version']}" if request["version"] else f"lifting {request['model']}"
    return f"Request {request['id']} ({what} on {request['channel']}): {request['state']}"


@cli.command("channel-settings")
@channel_option
@click.option("--approvals", type=click.IntRange(0, 5), help="Other people who must approve a release.")
@click.option("--lift-approvals", type=click.IntRange(0, 5), help="Other people who must approve a lifting.")
@verb
def channel_settings(
    server: ControlPlane, *, channel: str, approvals: int | None, lift_approvals: int | None, as_json: bool
) -> Any:
    """Show who must approve on a channel, or change it."""
    wanted = {"approvals_required": approvals, "lift_approvals_required": lift_approvals}
    answer = server.channel_settings(channel, {name: value for name, value in wanted.items() if value is not None})
    if not as_json:
        console.print(
            f"{channel}: {answer['approvals_required']} others approve a release, "
            f"{answer['lift_approvals_required']} the lifting of a kill switch."
        )
    return answer


@cli.command()
@click.argument("model")
@click.option("--from", "source", required=True, help="The channel whose live version to release.")
@channel_option
@click.option("--reason", default="")
@verb
def promote(server: ControlPlane, *, model: str, source: str, channel: str, reason: str, as_json: bool) -> Any:
    """Release to a channel what devices of another one have."""
    answer = server.promote(channel, model, source, reason)
    if not as_json:
        console.print(f"{model} version {answer['version']} goes from {source} to {channel}.")
        views.print_warnings(console, answer["warnings"])
    return answer


@cli.command()
@channel_option
@verb
def requests(server: ControlPlane, *, channel: str, as_json: bool) -> Any:
    """List requests that wait for approval or their time, and what became of the others."""
    answer = server.release_requests(channel)
    if not as_json:
        console.print(views.plain_table(REQUEST, answer))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@channel_option
@click.option("--reason", default="")
@click.option("--at", "publish_at", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]), help="2026-12-01T08:00:00Z")
@verb
def request(
    server: ControlPlane,
    *,
    model: str,
    version: int,
    channel: str,
    reason: str,
    publish_at: datetime | None,
    as_json: bool,
) -> Any:
    """Ask for a release that others approve, or that happens at a time."""
    at = f"{publish_at:%Y-%m-%dT%H:%M:%SZ}" if publish_at else None
    body = {"model": model, "version": version, "reason": reason, "publish_at": at}
    answer = server.request_release(channel, body)
    if not as_json:
        console.print(told_of(answer))
    return answer


@cli.command()
@click.argument("request_id", metavar="ID", type=int)
@channel_option
@verb
def approve(server: ControlPlane, *, request_id: int, channel: str, as_json: bool) -> Any:
    """Approve somebody else's request, in its present edition."""
    answer = server.approve(channel, request_id)
    if not as_json:
        console.print(told_of(answer))
    return answer


@cli.command("cancel-request")
@click.argument("request_id", metavar="ID", type=int)
@channel_option
@verb
def cancel_request(server: ControlPlane, *, request_id: int, channel: str, as_json: bool) -> Any:
    """Cancel a request."""
    server.cancel_request(channel, request_id)
    if not as_json:
        console.print(f"Request {request_id} is cancelled.")


@cli.command()
@click.argument("model")
@click.option("--set", "wanted", help="A comma list of versions; empty for none.")
@channel_option
@verb
def floors(server: ControlPlane, *, model: str, wanted: str | None, channel: str, as_json: bool) -> Any:
    """Show or set the versions of MODEL that devices may not skip."""
    numbers = None if wanted is None else [int(number) for number in wanted.split(",") if number.strip()]
    answer = server.floors(channel, model, numbers)
    if not as_json:
        console.print(", ".join(map(str, answer["floors"])) or "none")
    return answer


@cli.command()
@click.argument("model")
@channel_option
@verb
def pins(server: ControlPlane, *, model: str, channel: str, as_json: bool) -> Any:
    """List units that get a version of MODEL by name."""
    answer = server.pins(channel, model)
    if not as_json:
        console.print(views.plain_table(PIN, answer))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--unit", help="The installation's id.")
@click.option("--test-device", type=int, help="Or the id of a test device.")
@click.option("--label", default="")
@channel_option
@verb
def pin(
    server: ControlPlane,
    *,
    model: str,
    version: int,
    unit: str | None,
    test_device: int | None,
    label: str,
    channel: str,
    as_json: bool,
) -> Any:
    """Give one unit or test device VERSION of MODEL, whatever is released."""
    body = {"version": version, "unit": unit, "test_device": test_device, "label": label}
    answer = server.pin(channel, model, body)
    if not as_json:
        console.print(f"Pin {answer['id']}: {model} version {version}.")
    return answer


@cli.command()
@click.argument("model")
@click.argument("pin_id", metavar="ID", type=int)
@channel_option
@verb
def unpin(server: ControlPlane, *, model: str, pin_id: int, channel: str, as_json: bool) -> Any:
    """Let a pinned unit go with the others again."""
    server.unpin(channel, model, pin_id)
    if not as_json:
        console.print(f"Pin {pin_id} is removed.")


@cli.command("test-devices")
@channel_option
@verb
def test_devices(server: ControlPlane, *, channel: str, as_json: bool) -> Any:
    """List a channel's test devices and invitations."""
    answer = server.test_devices(channel)
    if not as_json:
        console.print(views.plain_table(DEVICE, answer))
    return answer


@cli.command("invite-device")
@click.argument("name")
@click.option("--channel", default="preview", show_default=True)
@verb
def invite_device(server: ControlPlane, *, name: str, channel: str, as_json: bool) -> Any:
    """Print a QR code that enrols one device into a channel, once."""
    answer = server.invite_device(channel, name)
    if not as_json:
        segno.make(answer["url"], error="m").terminal(compact=True)
        click.echo(answer["url"])
    return answer


@cli.command("remove-device")
@click.argument("device_id", metavar="ID", type=int)
@click.option("--channel", default="preview", show_default=True)
@verb
def remove_device(server: ControlPlane, *, device_id: int, channel: str, as_json: bool) -> Any:
    """Forget a test device and its pins."""
    server.remove_device(channel, device_id)
    if not as_json:
        console.print(f"Test device {device_id} is removed.")
