"""`aerogram rollout …` and `aerogram experiment …`: the same verbs on the same rows, for people and for scripts.

Exit codes beside the usual ones: 30 the state is another than the command was made for (409 and 412). `status` ends
with what a script does next: 0 advance · 10 hold · 11 inconclusive · 20 halted · 21 rolled back.
"""

import json
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from rich.table import Table

from deploy.cli import views
from deploy.cli.client import ApiError, ControlPlane, Unreachable
from deploy.cli.group import cli, console, tell, verb
from deploy.cli.parameters import Moment, Percent
from experiments import words

ADVANCE, HOLD, INCONCLUSIVE, HALTED, ROLLED_BACK, CONFLICT = 0, 10, 11, 20, 21, 30
EXIT_CODES = {
    "advance": ADVANCE,
    "hold": HOLD,
    "halt_class": HOLD,
    "inconclusive": INCONCLUSIVE,
    "halt": HALTED,
    "rollback": ROLLED_BACK,
}
SHOWN = ("slug", "model", "channel", "state", "percent", "awaiting")
CHANGE = ("at", "actor", "verb", "reason")
OTHER_STATE = (409, 412)
# In these nothing happens by itself.
IDLE = ("draft", "archived")
TOO_MANY, SERVER_ERRORS = 429, 500
Command = Callable[..., Any]


def asking(function: Command) -> Command:
    """A verb that ends with 30 when the state is another than it was made for."""

    @wraps(function)
    def run(server: ControlPlane, *, as_json: bool, **options: Any) -> Any:
        try:
            return function(server, as_json=as_json, **options)
        except ApiError as error:
            if error.status not in OTHER_STATE:
                raise
            tell(error, as_json=as_json)
            raise SystemExit(CONFLICT) from error

    return verb(run)


def write_options(function: Command) -> Command:
    """What every write takes."""
    for option in (
        click.option("--if-match", help="The ETag of the state you saw; without it the present one."),
        click.option("--key", help="An Idempotency-Key: the same command again does nothing twice."),
        click.option("--validate-only", is_flag=True, help="Show what would change, and do nothing."),
    ):
        function = option(function)
    return function


def taken_from(said: dict[str, Any]) -> dict[str, Any]:
    """The options of `write_options`, out of all that were given."""
    return {name: said.pop(name) for name in ("if_match", "key", "validate_only")}


@cli.group()
def rollout() -> None:
    """Staged rollouts: create, ramp, halt, roll back, and wait for their verdict (docs/experiments.md)."""


@cli.group()
def experiment() -> None:
    """Comparisons of versions, and every rollout too: the same verbs (docs/experiments.md)."""


def shown(answer: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    if as_json:
        return answer
    percent = "" if answer["percent_bp"] is None else f" at {words.percent(answer['percent_bp'])}"
    preview = answer["preview"]
    if preview is None:
        waiting = f", waits for approval of {answer['awaiting']}" if answer["awaiting"] else ""
        console.print(f"{answer['slug']}: {answer['state']}{percent}{waiting}.")
        return answer
    console.print(f"{answer['slug']} would be {answer['state']}{percent}; nothing was done.")
    units = f"{preview['units_moved']} of {preview['units_known']} known units"
    console.print(f"{units} would get another version; the arm of {preview['buckets_moved']} buckets would change.")
    return answer


def action(name: str, told: str, *options: Callable[[Command], Command], needs_reason: bool = False) -> None:
    """The same verb in both groups."""

    def run(server: ControlPlane, *, slug: str, as_json: bool, **said: Any) -> Any:
        options, path = taken_from(said), f"experiments/{slug}"
        body = {key: value for key, value in said.items() if value is not None}
        answer = server.write("POST", f"{path}/actions/{name}", body, of=path, **options)
        return shown(answer, as_json=as_json)

    for group in (rollout, experiment):
        command: Command = write_options(asking(run))
        reason = click.option("--reason", required=True) if needs_reason else click.option("--reason", default="")
        for option in (*options, reason, click.argument("slug")):
            command = option(command)
        group.command(name, help=told)(command)


action("submit", "Ask for approval.")
action("approve", "Approve somebody else's: its start, or going on after a halt.")
action("reject", "Send it back to be a draft.", needs_reason=True)
action(
    "start", "Serve the first step, or wait for its time.", click.option("--starts-at", type=Moment(), help=Moment.told)
)
action("pause", "Stay at the present percentage.", needs_reason=True)
action("resume", "Go on after a pause; after a halt ask another person.")
action("advance", "Go to the next step, if the present one's conditions are met.")
action("approve-step", "Approve leaving the present step.")
action("ramp", "Set the percentage.", click.option("--to", "to_bp", type=Percent(), required=True), needs_reason=True)
action(
    "supersede",
    "Put another version in the treatment's place: the same units, at once.",
    click.option("--arm", help="Of which arm, where there are several."),
    click.option("--version", type=int, required=True),
    needs_reason=True,
)
action("rerandomise", "Draw all units anew.", needs_reason=True)
action(
    "halt",
    "Freeze: nobody else gets the treatment.",
    click.option("--device-class", help="For this class alone."),
    needs_reason=True,
)
action("rollback", "End it; units return to the current release.", needs_reason=True)
action("complete", "End it; the winner becomes the current release.", click.option("--winner", help="An arm."))
action("archive", "Put it aside.")


def in_both(name: str) -> Callable[[Command], Command]:
    def register(function: Command) -> Command:
        command = click.command(name)(function)  # one for both: a second one would find the options taken
        for group in (rollout, experiment):
            group.add_command(command)
        return function

    return register


@rollout.command("list")
@asking
def list_rollouts(server: ControlPlane, *, as_json: bool) -> Any:
    """Rollouts, newest first."""
    return _listed(SHOWN, server.rows("rollouts"), as_json=as_json)


@experiment.command("list")
@asking
def list_experiments(server: ControlPlane, *, as_json: bool) -> Any:
    """Experiments and rollouts, newest first."""
    return _listed(("slug", "kind", *SHOWN[1:]), server.rows("experiments"), as_json=as_json)


def _listed(columns: tuple[str, ...], rows: list[dict[str, Any]], *, as_json: bool) -> list[dict[str, Any]]:
    if not as_json:
        told = [{**row, "percent": row["percent_bp"] and words.percent(row["percent_bp"])} for row in rows]
        console.print(views.plain_table(columns, told))
    return rows


@in_both("show")
@click.argument("slug")
@asking
def show(server: ControlPlane, *, slug: str, as_json: bool) -> Any:
    """Its design and state."""
    answer = server.experiment(slug)
    if not as_json:
        console.print_json(json.dumps(answer))
    return answer


@in_both("status")
@click.argument("slug")
@click.option("--wait", is_flag=True, help="Stay while it is inconclusive, at the same step, or no answer comes.")
@click.option("--timeout", "timeout_seconds", default=86_400.0, show_default=True)
@click.option("--every", "pause_seconds", default=10.0, show_default=True, help="Seconds between two looks.")
@asking
def status(
    server: ControlPlane, *, slug: str, wait: bool, timeout_seconds: float, pause_seconds: float, as_json: bool
) -> Any:
    """How it stands; the exit code says what to do: 0 advance, 10 hold, 11 inconclusive, 20 halted, 21 rolled back."""
    answer = server.experiment(slug, "status")
    if wait:
        answer = _awaited(server, slug, answer, timeout_seconds, pause_seconds)
    if not as_json:
        _print_status(slug, answer)
    code = EXIT_CODES[answer["decision"]]
    if code:
        if as_json:
            click.echo(json.dumps(answer, indent=2))
        raise SystemExit(code)
    return answer


def _awaited(
    server: ControlPlane, slug: str, first: dict[str, Any], timeout_seconds: float, pause_seconds: float
) -> dict[str, Any]:
    """Until a verdict, or until the plan went on, which is one. A server that is away for a while may come back."""
    answer, ends_at, away = first, time.monotonic() + timeout_seconds, None
    while _may_change(answer) and time.monotonic() + pause_seconds <= ends_at:
        time.sleep(pause_seconds)
        try:
            answer, away = server.experiment(slug, "status"), None
        except ApiError as error:
            if not _passes(error):
                raise
            away = error
            continue
        if first["state"] != "running":
            first = answer
        elif answer["state"] == "running" and (answer["step"] or 0) > (first["step"] or 0):
            return answer | {"decision": "advance"}
    if away is not None:
        raise away
    return answer


def _may_change(answer: dict[str, Any]) -> bool:
    return answer["decision"] == "inconclusive" and answer["state"] not in IDLE


def _passes(error: ApiError) -> bool:
    return isinstance(error, Unreachable) or error.status == TOO_MANY or error.status >= SERVER_ERRORS


def _print_status(slug: str, answer: dict[str, Any]) -> None:
    at = "" if answer["percent_bp"] is None else f" at {words.percent(answer['percent_bp'])}"
    console.print(f"{slug}: {answer['state']}{at}, decision [bold]{answer['decision']}[/bold]")
    for reason in answer["reasons"]:
        console.print(f"  {reason}", markup=False)
    if answer["lacking"]:
        console.print(_lacking_in_words(answer["lacking"]), markup=False)
    table = Table("arm", "version", "split", "units", "activated", "failed", "lost")
    for arm in answer["arms"]:
        version = "embedded" if arm["version"] is None else str(arm["version"])
        counts = (str(arm[name]) for name in ("units", "activated", "failed", "lost"))
        table.add_row(arm["name"], version, f"{arm['expected_share'] * 100:.1f} %", *counts)
    if answer["arms"]:
        console.print(table)


def _lacking_in_words(lacking: dict[str, Any]) -> str:
    told = [f"{lacking[name]} {name}" for name in ("units", "approvals") if lacking[name]]
    if lacking["seconds"]:
        told.insert(0, words.span(lacking["seconds"]))
    return f"  lacking: {', '.join(told)}" if told else "  neither time nor units nor approvals are lacking"


@in_both("explain")
@click.argument("slug")
@click.argument("unit")
@asking
def explain(server: ControlPlane, *, slug: str, unit: str, as_json: bool) -> Any:
    """Which buckets UNIT draws, and what they give it."""
    answer = server.experiment(slug, "explain", unit=unit)
    if not as_json:
        arm = answer["arm"]["name"] if answer["arm"] else None
        console.print(f"{unit}: {answer['outcome']}" + (f", arm {arm}" if arm else ""), markup=False)
    return answer


@in_both("results")
@click.argument("slug")
@click.option("--phase", type=click.IntRange(min=1), help="Of one phase only.")
@click.option("--all", "is_all", is_flag=True, help="Every look that was written down, not the last one only.")
@asking
def results(server: ControlPlane, *, slug: str, phase: int | None, is_all: bool, as_json: bool) -> Any:
    """What was measured and concluded at the last look."""
    runs = server.experiment_results(slug, phase, None if is_all else 1)
    if not as_json:
        for run in runs:
            _print_results(slug, run)
        if not runs:
            console.print(f"{slug}: no look was taken yet")
    return runs


def _print_results(slug: str, run: dict[str, Any]) -> None:
    head = f"{slug}, phase {run['phase']}, {run['as_of']}: [bold]{run['verdict']}[/bold], {run['units']} units"
    console.print(head + " in the smallest arm")
    for reason in run["reasons"]:
        console.print(f"  {reason}", markup=False)
    funnel, metrics = Table("arm", "stage", "reached", "failed", "lost"), Table("metric", "harm", "bound", "margin")
    for name, arm in run["results"].get("arms", {}).items():
        for row in arm["funnel"]:
            funnel.add_row(name, row["stage"], *(str(row[column]) for column in ("reached", "failed", "lost")))
    measures: dict[str, str] = {}
    for metric in run["results"].get("metrics", ()):
        measure = measures[metric["name"]] = metric["measure"]
        harm, bound, margin = (words.harm(measure, metric[name]) for name in ("harm", "bound", "margin"))
        bound = bound if metric["is_enough"] else "too little data"
        metrics.add_row(f"{metric['name']}, {metric['arm']}", harm, bound, margin)
    final = Table("at the end", "difference", "95 % interval", "p, adjusted")
    for row in run["results"].get("final", ()):
        measure, (low, high) = measures.get(row["name"], ""), row["interval"]
        interval = "–" if low is None or high is None else words.between(measure, low, high)
        adjusted = _number(row["adjusted_p_value"])
        final.add_row(f"{row['name']}, {row['arm']}", words.effect(measure, row["difference"]), interval, adjusted)
    for table in (funnel, metrics, final):
        if table.row_count:
            console.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


@in_both("detectable")
@click.argument("slug")
@asking
def detectable(server: ControlPlane, *, slug: str, as_json: bool) -> Any:
    """Which harm the guardrails of each step would see with the units that there are."""
    answer = server.experiment(slug, "detectable")
    if not as_json:
        _print_detectable(slug, answer)
    return answer


def _print_detectable(slug: str, answer: dict[str, Any]) -> None:
    units = f"{'more than ' if answer['is_sample'] else ''}{answer['units']} units"
    usual = "assumed rates" if answer["baseline"]["is_assumed"] else "the rates of this channel"
    console.print(f"{slug}: the least harm that would be seen with {units} and {usual}")
    names = [sight["name"] for sight in answer["needed"]]
    table = Table("step", "units", *names)
    for step in answer["steps"]:
        smallest = f"{step['treatment_units']} and {step['control_units']}"
        seen = {sight["name"]: sight["words"] for sight in step["guardrails"]}
        short = "" if step["is_reachable"] else f", fewer than {step['min_units']}"
        told = [seen[name] for name in names] if step["control_units"] else ["–"] * len(names)
        table.add_row(words.percent(step["percent_bp"]), smallest + short, *told)
    console.print(table)
    needs = Table("guardrail", "harm", "units in each arm that show it")
    for need in answer["needed"]:
        units = words.number(need["units_per_arm"]) if need["units_per_arm"] else "no number would"
        needs.add_row(need["name"], need["words"], units)
    console.print(needs)


@in_both("changes")
@click.argument("slug")
@asking
def changes(server: ControlPlane, *, slug: str, as_json: bool) -> Any:
    """Who did what to it, newest first."""
    rows = server.rows(f"experiments/{slug}/changes")
    if not as_json:
        console.print(views.plain_table(CHANGE, rows))
    return rows
