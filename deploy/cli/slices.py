"""What goes another way than by an experiment's buckets, and who holds those: overrides, `holdback`, `layer`."""

import re
from typing import Any

import click
from rich.table import Table

from deploy.cli import views
from deploy.cli.client import ControlPlane
from deploy.cli.experiments import asking, in_both, shown, taken_from, write_options
from deploy.cli.group import cli, console
from deploy.cli.parameters import Moment, Percent
from experiments import words

UNIT_KEY = re.compile(r"[0-9a-f]{64}")
OVERRIDE = ("unit_key", "arm", "reason", "set_by", "expires_at")
HOLDBACK = ("channel", "model", "version", "percent", "until")
LAYER = ("id", "slug", "channel", "model", "epoch")
channel_option = click.option("--channel", default="production", show_default=True)


@in_both("override")
@click.argument("slug")
@click.argument("unit")
@click.argument("arm")
@click.option("--expires-at", type=Moment(), help=Moment.told)
@click.option("--reason", default="")
@write_options
@asking
def override(server: ControlPlane, *, slug: str, as_json: bool, **said: Any) -> Any:
    """Give UNIT one ARM whatever its bucket; it then enters no analysis."""
    options = taken_from(said)
    path = f"experiments/{slug}"
    return shown(server.write("POST", f"{path}/overrides", said, of=path, **options), as_json=as_json)


@in_both("overrides")
@click.argument("slug")
@asking
def overrides(server: ControlPlane, *, slug: str, as_json: bool) -> Any:
    """Units that get an arm by name; of each only a hash is known."""
    rows = server.rows(f"experiments/{slug}/overrides")
    if not as_json:
        console.print(views.plain_table(OVERRIDE, rows))
    return rows


@in_both("clear-override")
@click.argument("slug")
@click.argument("unit")
@click.option("--reason", default="")
@write_options
@asking
def clear_override(server: ControlPlane, *, slug: str, unit: str, reason: str, as_json: bool, **options: Any) -> Any:
    """Let UNIT, or the one of that hash, go by its bucket again."""
    key = unit if UNIT_KEY.fullmatch(unit) else server.experiment(slug, "explain", unit=unit)["unit_key"]
    path = f"experiments/{slug}"
    answer = server.write("DELETE", f"{path}/overrides/{key}", of=path, query={"reason": reason}, **options)
    return shown(answer, as_json=as_json)


@cli.group()
def holdback() -> None:
    """Slices of a model's devices that stay on one version, whatever is released (docs/experiments.md)."""


@holdback.command("create")
@click.argument("model")
@click.argument("version", type=int)
@click.option("--percent", "percent_bp", type=Percent(), default="2", show_default=True, help="50 at most.")
@click.option("--until", type=Moment(), help=Moment.told)
@channel_option
@click.option("--reason", required=True)
@write_options
@asking
def create_holdback(server: ControlPlane, *, model: str, channel: str, as_json: bool, **said: Any) -> Any:
    """Keep a slice of MODEL's devices on VERSION; of one that there is, change the version, size or end."""
    options = taken_from(said)
    path = f"channels/{channel}/models/{model}/holdback"
    return _held(server.write("PUT", path, said, of=path, or_new=True, **options), as_json=as_json)


@holdback.command("lift")
@click.argument("model")
@channel_option
@click.option("--reason", required=True)
@write_options
@asking
def lift_holdback(server: ControlPlane, *, model: str, channel: str, reason: str, as_json: bool, **options: Any) -> Any:
    """Let everybody have what is released, at once."""
    path = f"channels/{channel}/models/{model}/holdback"
    answer = server.write("DELETE", path, of=path, query={"reason": reason}, **options)
    if not as_json and answer["preview"] is None:
        console.print(f"{model} on {channel}: nobody is held back.")
        return answer
    return _held(answer, as_json=as_json)


@holdback.command("list")
@asking
def list_holdbacks(server: ControlPlane, *, as_json: bool) -> Any:
    """Those in force."""
    rows = server.rows("holdbacks")
    if not as_json:
        told = [{**row, "percent": words.percent(row["percent_bp"])} for row in rows]
        console.print(views.plain_table(HOLDBACK, told))
    return rows


def _held(answer: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    if as_json:
        return answer
    preview = answer["preview"]
    slice_of = f"{words.percent(answer['percent_bp'])} of {answer['model']} on {answer['channel']}"
    if preview is None:
        console.print(f"{slice_of} stay on version {answer['version']}.")
    else:
        units = f"{preview['units_moved']} of {preview['units_known']} known units"
        console.print(f"{slice_of}, version {answer['version']}: nothing was done; {units} would change.")
    return answer


@cli.group()
def layer() -> None:
    """The buckets of a model's devices on a channel, which experiments share out (docs/experiments.md)."""


@layer.command("list")
@asking
def list_layers(server: ControlPlane, *, as_json: bool) -> Any:
    """Layers; each was made with its first experiment."""
    rows = server.rows("layers")
    if not as_json:
        console.print(views.plain_table(LAYER, rows))
    return rows


@layer.command("map")
@click.argument("model")
@channel_option
@click.option("--layer", "slug", default="default", show_default=True)
@asking
def map_layer(server: ControlPlane, *, model: str, channel: str, slug: str, as_json: bool) -> Any:
    """Who holds which buckets of MODEL's devices, and which are free."""
    found = [row for row in server.rows("layers", channel=channel, model=model) if row["slug"] == slug]
    if not found:
        raise click.UsageError(f"expected a layer that an experiment of {model} on {channel} uses, got {slug}")
    answer = server.layer_map(found[0]["id"])
    if not as_json:
        table = Table("from", "to", "held by", "since")
        for row in answer["held"]:
            table.add_row(*map(str, row["range"]), row["experiment"], row["since"])
        for span in answer["free"]:
            table.add_row(*map(str, span), "free", "")
        console.print(table)
    return answer
