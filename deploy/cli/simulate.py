"""`aerogram simulate`: thousands of simulated devices against a server, or against the rules alone."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from deploy.cli.client import ControlPlane
from deploy.cli.group import cli, console, verb
from deploy.cli.parameters import PlanStep
from deploy.fleet.chances import Chances, Drawn, Even
from deploy.fleet.core import Happening, Rollout, Step, require_rising
from deploy.fleet.devices import fleet_of
from deploy.fleet.driver import Driver
from deploy.fleet.population import EVERY, KINDS, App, Faults

KIND_NAMES = [kind.name for kind in KINDS]
FAULT_HELP = "SHARE of all devices or KIND=SHARE, such as low=0.06; several times."
DEFAULT_STEPS = (
    {"percent_bp": 2_000, "hold_seconds": 30 * 3600, "min_units": 100},
    {"percent_bp": 5_000, "hold_seconds": 30 * 3600, "min_units": 200},
    {"percent_bp": 10_000, "hold_seconds": 30 * 3600, "min_units": 200},
)


class FaultShare(click.ParamType[tuple[str, float]]):
    """0.02, or low=0.06 of one kind."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        kind, _, text = str(value).rpartition("=")
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1 or kind not in ("", *KIND_NAMES):
            self.fail(f"expected 0 to 1, or KIND=SHARE with {', '.join(KIND_NAMES)}, got {value!r}", param, ctx)
        return kind or EVERY, share


def _faults(function: Any) -> Any:
    told = {
        "crash": "its process dies at a first run",
        "compile_failure": "it does not load",
        "download_loss": "it is never heard of again",
        "slow": "inferences take four times as long",
        "forged": "it says that files are not genuine",
    }
    for name, what in reversed(told.items()):
        flag = f"--{name.replace('_', '-')}"
        function = click.option(flag, name, type=FaultShare(), multiple=True, help=f"{what}: {FAULT_HELP}")(function)
    return function


@cli.command()
@click.argument("model")
@click.option("--channel", default="production", show_default=True)
@click.option("--device-url", envvar="AEROGRAM_DEVICE_URL", default="http://127.0.0.1:8001", show_default=True)
@click.option("--devices", default=2000, show_default=True, type=click.IntRange(1, 200_000))
@click.option("--days", default=1.0, show_default=True, type=click.FloatRange(0, 400), help="Visits of each device.")
@click.option("--pause", default=2.0, show_default=True, help="Seconds between two days, for the server to look.")
@click.option("--installed", type=int, help="The version that devices have; the oldest without it.")
@click.option("--version", type=int, help="The version that the faults are in; the newest without it.")
@click.option("--usual-crash", default=0.0, show_default=True, help="Share that crashes on any other version.")
@_faults
@click.option("--silent", is_flag=True, help="Devices get what they are given and report nothing.")
@click.option("--even", is_flag=True, help="Plant faults evenly, without chance.")
@click.option("--seed", default=1, show_default=True, help="The same devices again.")
@click.option("--pure", is_flag=True, help="No server: a rollout through the rules alone, by the hour.")
@click.option("--step", "steps", type=PlanStep(), multiple=True, help="With --pure: PERCENT[:HOURS[:UNITS]]; several.")
@verb
def simulate(
    server: ControlPlane,
    *,
    model: str,
    devices: int,
    installed: int | None,
    version: int | None,
    usual_crash: float,
    silent: bool,
    even: bool,
    seed: int,
    pure: bool,
    as_json: bool,
    **said: Any,
) -> Any:
    """Let simulated DEVICES poll for MODEL and report, with faults planted in one version of it."""
    old, new = (installed or 1, version or 2) if pure else _versions(server, model, installed, version)
    planted = Faults(**{name: dict(said.pop(name)) for name in Faults.__dataclass_fields__})
    app = App(model, old, {new: planted}, Faults(crash={EVERY: usual_crash}), is_silent=silent)
    chances: Chances = Even() if even else Drawn(seed)
    fleet = fleet_of(devices, [app], chances, seed=seed)
    if pure:
        return _tried(Rollout(fleet, app, _steps(said["steps"]), old=old, new=new, seed=seed), said["days"], as_json)
    with Driver(said["device_url"], server.application, said["channel"], fleet) as driver:
        return _driven(driver, model, max(1, round(said["days"])), said["pause"], as_json)


def _versions(server: ControlPlane, model: str, installed: int | None, version: int | None) -> tuple[int, int]:
    if installed and version:
        return installed, version
    numbers = sorted(row["number"] for row in server.versions(model))
    if not numbers:
        raise click.UsageError(f"expected a model with a version, {model} has none")
    return installed or numbers[0], version or numbers[-1]


def _driven(driver: Driver, model: str, days: int, pause_seconds: float, as_json: bool) -> dict[str, Any]:  # noqa: FBT001
    began = time.monotonic()
    for day in range(1, days + 1):
        driver.visit()
        if not as_json:
            _print_day(driver, model, day, time.monotonic() - began)
        if day < days:
            time.sleep(pause_seconds)
    tally = driver.tally
    if not as_json:
        _print_events(model, tally.stages)
    counts = {name: getattr(tally, name) for name in ("polls", "unchanged", "batches", "events", "refused")}
    given = [
        {"kind": kind, "reason": reason, "version": version, "devices": number}
        for (kind, reason, version), number in sorted(driver.reasons(model).items(), key=str)
    ]
    return {**counts, "waiting_events": driver.waiting_events, "errors": dict(tally.errors), "given": given}


def _print_day(driver: Driver, model: str, day: int, seconds: float) -> None:
    by_reason: Counter[str] = Counter()
    for (_, reason, version), number in driver.reasons(model).items():
        by_reason[f"{reason} {version or '–'}"] += number
    given = ", ".join(f"{number} {what}" for what, number in by_reason.most_common())
    tally = driver.tally
    console.print(f"{seconds:6.1f} s  day {day}: {given}", highlight=False, soft_wrap=True)
    if tally.errors or tally.refused:
        console.print(
            f"          {tally.refused} batches put off, errors: {dict(tally.errors)}", highlight=False, soft_wrap=True
        )


def _print_events(model: str, stages: Mapping[tuple[str, str, str], int]) -> None:
    table = Table("stage", "ok", "failed")
    for stage in dict.fromkeys(stage for name, stage, _ in stages if name == model):
        table.add_row(stage, *(str(stages.get((model, stage, outcome), 0)) for outcome in ("ok", "failed")))
    console.print(table)


def _steps(wanted: tuple[dict[str, Any], ...]) -> list[Step]:
    steps = [Step(row["percent_bp"], row["hold_seconds"] / 3600, row["min_units"]) for row in wanted or DEFAULT_STEPS]
    try:
        require_rising(steps)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return steps


def _tried(rollout: Rollout, days: float, as_json: bool) -> dict[str, Any]:  # noqa: FBT001
    if not as_json:
        rollout.heard = _print_happening
        for happening in rollout.history:
            _print_happening(happening)
    rollout.run(days)
    if not as_json:
        console.print(f"after {days:g} days at the most: [bold]{rollout.state}[/bold], {rollout.percent_bp / 100:g} %")
    return {
        "state": rollout.state,
        "percent_bp": rollout.percent_bp,
        "halted_classes": list(rollout.halted_classes),
        "history": [happening._asdict() for happening in rollout.history],
    }


def _print_happening(happening: Happening) -> None:
    day, hour = divmod(happening.hour, 24)
    line = f"day {day + 1:2.0f}, {hour:02.0f}:00  {happening.what}, {happening.percent_bp / 100:g} %"
    console.print(line + (f"  {happening.reasons[0]}" if happening.reasons else ""), highlight=False, soft_wrap=True)
