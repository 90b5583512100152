"""Verbs that only look."""

from typing import Any

import click

from deploy.cli import views
from deploy.cli.client import UNFINISHED, ControlPlane
from deploy.cli.group import cli, console, verb

ROWS = {
    "jobs": ("model", "version", "recipe", "state", "attempts"),
    "channels": ("slug", "created_at"),
    "device-classes": ("position", "name", "variants", "selector"),
    "members": ("user", "role"),
    "revisions": ("number", "published_at", "reason"),
    "kill-switches": ("model", "engaged_at", "engaged_by", "reason", "lifted_at"),
    "audit-log": ("at", "actor", "verb", "subject", "before", "after", "reason"),
    "applications": ("slug", "name", "channels"),
    "tokens": ("id", "name", "role", "application", "expires_at"),
}

ENDINGS = ("succeeded", "failed", "timed_out", "out_of_memory", "crashed", "parity_missed", "cancelled")


def _shown(kind: str, rows: list[dict[str, Any]], *, as_json: bool) -> list[dict[str, Any]]:
    if not as_json:
        console.print(views.plain_table(ROWS[kind], rows))
    return rows


@cli.command()
@click.option("--model")
@click.option("--state", type=click.Choice([*sorted(UNFINISHED), *ENDINGS]))
@verb
def jobs(server: ControlPlane, *, model: str | None, state: str | None, as_json: bool) -> Any:
    """List conversions of all models, newest first."""
    conditions = {name: value for name, value in (("model", model), ("state", state)) if value}
    return _shown("jobs", server.jobs(**conditions), as_json=as_json)


@cli.command()
@verb
def channels(server: ControlPlane, *, as_json: bool) -> Any:
    """List the application's channels."""
    return _shown("channels", server.channels(), as_json=as_json)


@cli.command("device-classes")
@verb
def device_classes(server: ControlPlane, *, as_json: bool) -> Any:
    """List the device classes in the order in which they are tried."""
    return _shown("device-classes", server.device_classes(), as_json=as_json)


@cli.command()
@click.option("--os", required=True)
@click.option("--os-version", default="")
@click.option("--app-version", default="")
@click.option("--runtime", default="")
@click.option("--runtime-version", default="")
@click.option("--device", default="")
@click.option("--soc", default="")
@click.option("--ram-mb", type=int)
@click.option("--accelerator", "accelerators", multiple=True, help="May be given several times.")
@verb
def match(server: ControlPlane, *, as_json: bool, accelerators: tuple[str, ...], **profile: Any) -> Any:
    """Say which device class a device would get, and why not an earlier one."""
    answer = server.match({**profile, "accelerators": list(accelerators)})
    if not as_json:
        for earlier in answer["earlier"]:
            console.print(f"not {earlier['device_class']}: {earlier['why_not']}")
        variants = ", ".join(answer["variants"])
        console.print(f"{answer['device_class'] or 'no device class'}" + (f": {variants}" if variants else ""))
    return answer


@cli.command()
@click.argument("model")
@click.option("--channel", default="production", show_default=True)
@click.option("--unit", help="The installation's id; without it, the rule for none.")
@click.option("--os", default="")
@click.option("--os-version", default="")
@click.option("--app-version", default="")
@click.option("--runtime", default="")
@click.option("--runtime-version", default="")
@click.option("--device", default="", help="maker/model")
@click.option("--soc", default="")
@click.option("--ram-mb", default="")
@click.option("--accelerators", default="", help="A comma list.")
@click.option("--runs", type=int, help="The version that the device runs now.")
@verb
def explain(
    server: ControlPlane, *, model: str, channel: str, unit: str | None, runs: int | None, as_json: bool, **profile: str
) -> Any:
    """Say what a device would get of MODEL, every rule that was tried, and the first that failed."""
    query = {name: value for name, value in profile.items() if value}
    if runs is not None:
        query["current"] = f"{model}:{runs}"
    answer = server.explain(channel, model, query, unit)
    if not as_json:
        views.print_explanation(console, answer)
    return answer


@cli.command()
@verb
def members(server: ControlPlane, *, as_json: bool) -> Any:
    """List who has which role."""
    return _shown("members", server.members(), as_json=as_json)


@cli.command()
@verb
def revisions(server: ControlPlane, *, as_json: bool) -> Any:
    """List revisions of the signed tree, newest first."""
    return _shown("revisions", server.revisions(), as_json=as_json)


@cli.command("kill-switches")
@click.option("--channel", default="production", show_default=True)
@verb
def kill_switches(server: ControlPlane, *, channel: str, as_json: bool) -> Any:
    """List kill switches of a channel, engaged and lifted."""
    return _shown("kill-switches", server.kill_switches(channel), as_json=as_json)


@cli.command("audit-log")
@click.option("--verb", "done", help="Only entries of this verb.")
@click.option("--actor")
@click.option("--subject")
@click.option("--most", default=50, show_default=True, type=click.IntRange(1))
@verb
def audit_log(
    server: ControlPlane, *, done: str | None, actor: str | None, subject: str | None, most: int, as_json: bool
) -> Any:
    """List who did what, newest first."""
    given = (("verb", done), ("actor", actor), ("subject", subject))
    entries = server.audit_log(most=most, **{name: value for name, value in given if value})
    return _shown("audit-log", entries, as_json=as_json)


@cli.command()
@verb
def applications(server: ControlPlane, *, as_json: bool) -> Any:
    """List the applications that you are a member of."""
    return _shown("applications", server.applications(), as_json=as_json)


@cli.command()
@verb
def tokens(server: ControlPlane, *, as_json: bool) -> Any:
    """List your API tokens."""
    return _shown("tokens", server.tokens(), as_json=as_json)
