"""Verbs about conversions: steer them, compare what came out, prove it, and say what may be released."""

import json
from pathlib import Path
from typing import Any

import click

from deploy.cli import views
from deploy.cli.client import ControlPlane
from deploy.cli.group import NOT_CONVERTED, cli, console, verb

readable = click.Path(exists=True, dir_okay=False, path_type=Path)
EQUAL = "equal"


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("recipes", nargs=-1)
@click.option("--profile", help="The recipes of this profile, in place of naming them.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the conversions end.")
@click.option("--timeout", "timeout_seconds", default=1800.0, show_default=True)
@verb
def convert(
    server: ControlPlane,
    *,
    model: str,
    version: int,
    recipes: tuple[str, ...],
    profile: str | None,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Ask for further RECIPES of a version that exists."""
    answer = server.request_recipes(model, version, recipes=list(recipes), profile=profile)
    return _followed(server, answer, wait=wait, timeout_seconds=timeout_seconds, as_json=as_json)


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("recipe", required=False)
@verb
def cancel(server: ControlPlane, *, model: str, version: int, recipe: str | None, as_json: bool) -> Any:
    """Stop RECIPE, or without one every conversion of the version that is not done."""
    answer = server.cancel(model, version, recipe)
    if not as_json:
        console.print(f"Stopping {recipe or 'all conversions'} of {model} version {version}.")
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("recipe")
@verb
def retry(server: ControlPlane, *, model: str, version: int, recipe: str, as_json: bool) -> Any:
    """Run RECIPE again, which did not succeed, and what failed along with it."""
    answer = server.retry(model, version, recipe)
    if not as_json:
        console.print(f"{recipe} of {model} version {version} is {answer['state']} again.")
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("recipe")
@click.argument("priority", type=click.IntRange(-10, 10))
@verb
def prioritise(server: ControlPlane, *, model: str, version: int, recipe: str, priority: int, as_json: bool) -> Any:
    """Let RECIPE run before others (above 0) or after them. Write a negative number after --."""
    answer = server.prioritise(model, version, recipe, priority)
    if not as_json:
        console.print(f"{recipe} of {model} version {version} has priority {answer['priority']}.")
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@verb
def matrix(server: ControlPlane, *, model: str, version: int, as_json: bool) -> Any:
    """Show every recipe of a version: state, progress, size, accuracy, latency and gates."""
    answer = server.matrix(model, version)
    if not as_json:
        console.print(views.matrix_table(answer))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--notes", default="")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the conversions end.")
@click.option("--timeout", "timeout_seconds", default=1800.0, show_default=True)
@verb
def rebuild(
    server: ControlPlane, *, model: str, version: int, notes: str, wait: bool, timeout_seconds: float, as_json: bool
) -> Any:
    """Make a new version of the same source with the converters of today."""
    answer = server.rebuild(model, version, notes)
    return _followed(server, answer, wait=wait, timeout_seconds=timeout_seconds, as_json=as_json)


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("variant", required=False)
@click.option("--all", "every", is_flag=True, help="Every variant of the version, one after another.")
@click.option("--timeout", "timeout_seconds", default=3600.0, show_default=True, help="For each variant.")
@verb
def reproduce(
    server: ControlPlane,
    *,
    model: str,
    version: int,
    variant: str | None,
    every: bool,
    timeout_seconds: float,
    as_json: bool,
) -> Any:
    """Build VARIANT again from its stored source and compare every file. Exit code 5 when one differs."""
    if bool(variant) == every:
        raise click.UsageError("expected a VARIANT or --all, and not both")
    names = [str(row["name"]) for row in server.variants(model, version)] if every else [str(variant)]
    answers = {}
    for name in names:
        answers[name] = views.follow_reproduction(
            console, server, model, version, name, timeout_seconds=timeout_seconds, quiet=as_json
        )
        if not as_json:
            views.print_reproduction(console, name, answers[name])
    equal = sum(answer["state"] == EQUAL for answer in answers.values())
    if as_json:
        click.echo(json.dumps(answers if every else answers[names[0]], indent=2))
    elif every:
        console.print(f"{equal} of {len(names)} variants of {model} version {version} came out the same.")
    raise SystemExit(0 if 0 < equal == len(names) else NOT_CONVERTED)


@cli.command()
@click.argument("model")
@click.argument("older", type=int)
@click.argument("newer", type=int)
@verb
def compare(server: ControlPlane, *, model: str, older: int, newer: int, as_json: bool) -> Any:
    """Show what each recipe costs in version NEWER against version OLDER."""
    answer = server.compare(model, older, newer)
    if not as_json:
        console.print(views.comparison_table(answer))
    return answer


@cli.command()
@click.argument("model")
@verb
def profiles(server: ControlPlane, *, model: str, as_json: bool) -> Any:
    """List the profiles of MODEL: named sets of recipes."""
    answer = server.profiles(model)
    if not as_json:
        console.print(views.plain_table(("name", "is_default", "recipes"), answer))
    return answer


@cli.command("set-profile")
@click.argument("model")
@click.argument("name")
@click.argument("recipes", nargs=-1, required=True)
@click.option("--default", "is_default", is_flag=True, help="Used by a push that names neither recipes nor a profile.")
@verb
def set_profile(
    server: ControlPlane, *, model: str, name: str, recipes: tuple[str, ...], is_default: bool, as_json: bool
) -> Any:
    """Make the profile NAME of MODEL, or put other RECIPES under it."""
    answer = server.set_profile(model, name, list(recipes), is_default=is_default)
    if not as_json:
        console.print(f"Profile {name} of {model}: {', '.join(answer['recipes'])}.")
    return answer


@cli.command("delete-profile")
@click.argument("model")
@click.argument("name")
@verb
def delete_profile(server: ControlPlane, *, model: str, name: str, as_json: bool) -> Any:
    """Delete the profile NAME of MODEL. Versions made with it stay."""
    server.delete_profile(model, name)
    if not as_json:
        console.print(f"Profile {name} of {model} is deleted.")


@cli.command()
@click.argument("model")
@click.option("--set", "document", type=readable, help="A JSON file with the gates to have from now on.")
@verb
def gates(server: ControlPlane, *, model: str, document: Path | None, as_json: bool) -> Any:
    """Show what variants of MODEL must keep to before they are released, or replace it."""
    answer = server.set_gates(model, json_of(document)) if document else server.gates(model)
    if not as_json:
        click.echo(json.dumps(answer["gates"], indent=2))
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("variant")
@click.option("--reason", required=True)
@verb
def override(server: ControlPlane, *, model: str, version: int, variant: str, reason: str, as_json: bool) -> Any:
    """Allow VARIANT to be released although it misses a gate."""
    answer = server.override(model, version, variant, reason)
    if not as_json:
        for miss in answer["misses"]:
            console.print(f"Overridden: {miss['subject'] or variant} expected {miss['expected']}, got {miss['got']}")
    return answer


@cli.command()
@click.argument("model")
@click.argument("version", type=int)
@click.argument("variant")
@click.option("--device-class", required=True)
@click.option("--device", required=True, help="The device's name, as people know it.")
@click.option("--p50-us", type=click.IntRange(1), required=True, help="Median of one inference, in microseconds.")
@click.option("--p90-us", type=click.IntRange(1), required=True)
@click.option("--runs", type=click.IntRange(1), required=True)
@click.option("--delegate", default="")
@verb
def benchmark(server: ControlPlane, *, model: str, version: int, variant: str, as_json: bool, **measured: Any) -> Any:
    """Report what one inference of VARIANT takes on a real device."""
    answer = server.report_benchmark(model, version, variant, measured)
    if not as_json:
        console.print(f"{variant} takes {answer['p50_us']} µs on {answer['device']}.")
    return answer


def json_of(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise click.BadParameter(f"expected JSON in {path}: {error}") from error
    if not isinstance(document, dict):
        raise click.BadParameter(f"expected a JSON object in {path}, got {type(document).__name__}")
    return document


def _followed(
    server: ControlPlane, version: dict[str, Any], *, wait: bool, timeout_seconds: float, as_json: bool
) -> dict[str, Any]:
    model, number = version["model"], version["number"]
    if not wait:
        return version
    followed = views.follow_conversions(console, server, model, number, timeout_seconds=timeout_seconds, quiet=as_json)
    if not as_json:
        console.print(views.variant_table(followed, server.variants(model, number)))
    return followed
