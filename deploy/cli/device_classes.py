"""`aerogram device-class`: one device class, its conditions, and the order in which the classes are tried."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from deploy.cli.client import ApiError, ControlPlane
from deploy.cli.group import cli, console, verb
from registry.device_classes import Selector

NOT_FOUND = 404
# Of a class that is new: what an application's own fallback prefers is the server's business, so it must be said.
EMPTY: dict[str, Any] = {"selector": {}, "variants": [], "delegate_order": []}
HELP = {
    "os": "android, ios or another word",
    "runtime": "litert, coreml, onnxruntime or executorch",
    "ram_mb_min": "MiB",
    "ram_mb_max": "MiB",
    "soc": "any spelling of the chip",
    "accelerators_all": "each of them is needed, such as gpu or npu",
    "device_include": "maker/model",
    "device_exclude": "maker/model",
}
CONDITIONS = [field.name for field in fields(Selector)]
LISTS = {field.name for field in fields(Selector) if field.default == ()}


def conditions(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each condition of a selector; those that name things may be given several times."""
    for name in reversed(CONDITIONS):
        many, number = name in LISTS, name.startswith("ram_mb")
        told = HELP.get(name, "dotted version, inclusive") + ("; may be given several times" if many else "")
        flag = f"--{name.replace('_', '-')}"
        option = click.option(flag, name, multiple=many, type=click.IntRange(min=0) if number else str, help=told)
        function = option(function)
    return function


@cli.group("device-class")
def device_class() -> None:
    """Device classes: show, edit, order, delete; `device-classes` lists them, `match` tries them."""


@device_class.command()
@click.argument("name")
@verb
def show(server: ControlPlane, *, name: str, as_json: bool) -> Any:
    """Show one class: its conditions, all of which must hold, and its variants, best first."""
    return _told(server.device_class(name), as_json=as_json)


@device_class.command()
@click.argument("name")
@conditions
@click.option("--clear", type=click.Choice(CONDITIONS), multiple=True, help="Drop this condition.")
@click.option("--variant", "variants", multiple=True, help="Several times, best first; in place of what is there.")
@click.option("--delegate", "delegate_order", multiple=True, help="Several times: what the runtime tries first.")
@click.option("--position", type=click.IntRange(min=0))
@verb
def edit(
    server: ControlPlane,
    *,
    name: str,
    clear: tuple[str, ...],
    variants: tuple[str, ...],
    delegate_order: tuple[str, ...],
    position: int | None,
    as_json: bool,
    **wanted: Any,
) -> Any:
    """Change a class, or add one of that name at the end. What is not named stays as it is."""
    present = _present(server, name)
    selector = {key: value for key, value in (present or EMPTY)["selector"].items() if key not in clear}
    selector |= {
        key: list(value) if key in LISTS else value for key, value in wanted.items() if value not in ((), None)
    }
    body = {**(present or EMPTY), "name": name, "selector": selector}
    body |= {"variants": list(variants)} if variants else {}
    body |= {"delegate_order": list(delegate_order)} if delegate_order else {}
    body |= {} if position is None else {"position": position}
    return _told(server.save_device_class(body, is_new=present is None), as_json=as_json)


@device_class.command()
@click.argument("names", nargs=-1, required=True)
@verb
def order(server: ControlPlane, *, names: tuple[str, ...], as_json: bool) -> Any:
    """Try the classes in this order: NAMES are all of them. The last one is the fallback, without any condition."""
    answer = server.order_device_classes(list(names))
    if not as_json:
        console.print(" → ".join(row["name"] for row in answer))
    return answer


@device_class.command()
@click.argument("name")
@verb
def delete(server: ControlPlane, *, name: str, as_json: bool) -> Any:
    """Delete a class; its devices fall through to those after it."""
    server.delete_device_class(name)
    if not as_json:
        console.print(f"{name} is deleted.")


def _present(server: ControlPlane, name: str) -> dict[str, Any] | None:
    try:
        return server.device_class(name)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return None


def _told(row: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    if not as_json:
        console.print(f"[bold]{row['name']}[/bold], position {row['position']}")
        for name, value in row["selector"].items():
            console.print(f"  {name}: {', '.join(value) if isinstance(value, list) else value}", highlight=False)
        if not row["selector"]:
            console.print("  no condition: every device that comes this far")
        console.print(f"  variants: {', '.join(row['variants'])}", highlight=False)
        if row["delegate_order"]:
            console.print(f"  delegates: {', '.join(row['delegate_order'])}", highlight=False)
    return row
