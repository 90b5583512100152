"""`aerogram rollout|experiment create` and `edit`: what is compared, on which devices, and by which plan."""

from collections.abc import Callable
from typing import Any

import click

from deploy.cli.client import ControlPlane
from deploy.cli.experiments import Command, asking, experiment, in_both, rollout, shown, taken_from, write_options
from deploy.cli.parameters import Arm, Document, Moment, PlanStep, Span


def design_options(*, of_new: bool) -> Callable[[Command], Command]:
    """What may be said of a design; `of_new`: also what stays for good."""
    options = [
        click.option(
            "--step", "steps", type=PlanStep(), multiple=True, help="PERCENT[:HOURS[:UNITS[:approval]]]; several."
        ),
        click.option("--hypothesis", help="What is expected, for those who approve."),
        click.option("--policy", type=Document(), help="A JSON file: guardrails that are not the default ones."),
        click.option("--layer-range", type=Span(), help="FIRST:END of the 10000 buckets; everything without it."),
        click.option("--starts-at", type=Moment(), help=f"{Moment.told}; once it was started."),
        click.option("--reason", default=""),
    ]
    if of_new:
        options.append(click.option("--channel", default="production", show_default=True))
        options.append(click.option("--layer", help="Another layer than the model's own."))

    def decorate(function: Command) -> Command:
        function = write_options(function)
        for option in options:
            function = option(function)
        return function

    return decorate


@rollout.command("create")
@click.argument("slug")
@click.argument("model")
@click.argument("version", type=int)
@design_options(of_new=True)
@asking
def create_rollout(server: ControlPlane, *, as_json: bool, **said: Any) -> Any:
    """Write down a rollout of MODEL's VERSION under the name SLUG."""
    return _written(server, "POST", "rollouts", said, as_json=as_json)


@experiment.command("create")
@click.argument("slug")
@click.argument("model")
@click.option("--kind", type=click.Choice(["ab", "aa", "holdback"]), default="ab", show_default=True)
@click.option("--arm", "arms", type=Arm(), multiple=True, required=True, help="NAME=VERSION; the first is the control.")
@design_options(of_new=True)
@asking
def create_experiment(server: ControlPlane, *, as_json: bool, **said: Any) -> Any:
    """Write down a comparison of versions of MODEL under the name SLUG."""
    return _written(server, "POST", "experiments", said, as_json=as_json)


@in_both("edit")
@click.argument("slug")
@click.option("--version", type=int, help="Of a rollout: what is rolled out.")
@click.option("--arm", "arms", type=Arm(), multiple=True, help="NAME=VERSION; all of them, the first is the control.")
@click.option("--at-once", is_flag=True, help="No time to start at any more.")
@design_options(of_new=False)
@asking
def edit(server: ControlPlane, *, slug: str, at_once: bool, as_json: bool, **said: Any) -> Any:
    """Change a design that is not served yet: it is a draft again, its approvals are void. What is left out stays."""
    if at_once and said["starts_at"]:
        raise click.UsageError("expected either --starts-at or --at-once, got both")
    return _written(server, "PATCH", f"experiments/{slug}", said, as_json=as_json, clears=at_once)


def _written(
    server: ControlPlane, method: str, path: str, said: dict[str, Any], *, as_json: bool, clears: bool = False
) -> Any:
    options = taken_from(said)
    body = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items() if value}
    if "arms" in body:
        body["arms"] = [{**arm, "control": index == 0} for index, arm in enumerate(body["arms"])]
    if clears:
        body["starts_at"] = None
    of = None if method == "POST" else path
    return shown(server.write(method, path, body, of=of, **options), as_json=as_json)
