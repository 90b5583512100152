"""`make run`: everything Aerogram needs on one machine, in the foreground, under var/ of the checkout.

`python -m deploy.dev.run` starts PostgreSQL and Redis (unless DATABASE_URL, REDIS_URL or EVENT_STREAM_URL name
others), migrates, starts both planes and the workers, and seeds the demonstration at the first start.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import env
from deploy.dev import lock, processes, programs
from deploy.dev.children import Child
from deploy.dev.errors import DevError
from deploy.dev.layout import CHECKOUT, Layout, private_write
from deploy.dev.services import Services
from deploy.dev.supervisor import StopRequested, Supervisor

_VARIABLE_OF = {"postgres": "DATABASE_URL", "broker": "REDIS_URL", "events": "EVENT_STREAM_URL"}
_HEALTH_TIMEOUT_SECONDS = 90.0


def main() -> int:
    try:
        layout = Layout(env.folder("AEROGRAM_VAR_DIR", CHECKOUT / "var"))
        addresses = programs.Addresses.read()
        layout.create()
        with lock.hold(layout.run / "lock", f"web on port {addresses.web_port}"):
            return _supervise(layout, addresses)
    except (DevError, env.EnvError) as error:
        print(f"make run: {error}", file=sys.stderr, flush=True)
    except OSError as error:
        hint = f". Does {CHECKOUT / 'var'} belong to another user?" if isinstance(error, PermissionError) else ""
        print(f"make run: {error}{hint}", file=sys.stderr, flush=True)
    return 1


def environment_file(layout: Layout) -> Path:
    """Variables of the run in progress, for `python -m deploy.dev.exec`; absent when none is in progress."""
    return layout.secrets / "environment.json"


def _supervise(layout: Layout, addresses: programs.Addresses) -> int:
    supervisor = Supervisor(layout, say=_say)
    supervisor.listen_for_signals()
    for name in processes.stop_orphans(layout.run):
        _say(f"Stopped {name}, left behind by a run that was killed.")
    addresses.require_free()
    try:
        variables = _start_services(layout, addresses, supervisor)
        _prepare(layout, supervisor, variables)
        _start_programs(layout, addresses, supervisor, variables)
        _report(layout, variables)
        _seed(layout, supervisor, variables)
        supervisor.stay()
    except StopRequested:
        _say("Stopping…")
        return 0
    finally:
        environment_file(layout).unlink(missing_ok=True)
        supervisor.stop()
        _say("Stopped.")


def _start_services(layout: Layout, addresses: programs.Addresses, supervisor: Supervisor) -> dict[str, str]:
    services = Services.plan(layout.root)
    embedded = frozenset(name for name, variable in _VARIABLE_OF.items() if not os.environ.get(variable))
    _say(f"Starting {', '.join(sorted(embedded)) or 'no servers of our own'} …")
    try:
        for note in services.start(embedded):
            _say(note)
    finally:
        for child in services.children.values():
            supervisor.adopt(child)
    planned = services.environment()
    return programs.environment(
        layout, addresses, {_VARIABLE_OF[name]: planned[_VARIABLE_OF[name]] for name in embedded}
    )


def _prepare(layout: Layout, supervisor: Supervisor, variables: Mapping[str, str]) -> None:
    for name, arguments in (("migrate", ("migrate", "--no-input")), ("first_run", ("first_run",))):
        _say(f"Running manage.py {name} …")
        # What first_run prints holds the administrator's password, so its log lies among the secrets.
        logs = layout.secrets if name == "first_run" else layout.logs
        child = Child(programs.manage(name, *arguments, variables=variables), run=layout.run, logs=logs)
        before = child.log.stat().st_size if child.log.exists() else 0
        code = supervisor.complete(child)
        if code != 0:
            raise DevError(f"manage.py {name} failed with exit code {code}.{child.tail()}")
        if name == "first_run":
            with child.log.open("rb") as log:
                log.seek(before)
                print(log.read().decode(errors="replace"), end="", flush=True)
            child.log.unlink()  # "shown this once" must be true


def _start_programs(
    layout: Layout, addresses: programs.Addresses, supervisor: Supervisor, variables: Mapping[str, str]
) -> None:
    parts = programs.programs(layout, addresses, variables)
    _say(f"Starting {', '.join(part.name for part in parts)} …")
    for part in parts:
        supervisor.start(part)
    supervisor.wait_until_ready(frozenset({"web", "device"}), _HEALTH_TIMEOUT_SECONDS)
    private_write(environment_file(layout), json.dumps(dict(variables)))


def _seed(layout: Layout, supervisor: Supervisor, variables: Mapping[str, str]) -> None:
    if layout.demo_marker.exists() or importlib.util.find_spec("deploy.demo") is None:
        return
    _say("Seeding the demonstration, once …")
    code = supervisor.complete(Child(programs.demo(variables), run=layout.run, logs=layout.logs, in_terminal=True))
    if code == 0:
        layout.demo_marker.touch()
        _say("The demonstration is ready.")
    else:
        _say(f"The demonstration is not complete (exit code {code}); the next start goes through it again.")


def _report(layout: Layout, variables: Mapping[str, str]) -> None:
    _say(f"Web           {variables['AEROGRAM_WEB_URL']}/")
    _say(f"Device plane  {variables['AEROGRAM_DEVICE_URL']}/")
    _say(f"Logs          {layout.logs}/")
    _say("Ctrl-C stops everything.")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
