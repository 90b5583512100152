"""A device as a process of its own, for tests that kill it: `python -m tests.sdk.device_process '<json>'`.

Prints `started`, updates, prints the outcome's state. `die` names the moment at which it kills itself.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "sdk_stubs" / "python"))

import httpx
from aerogram_sdk import AerogramClient, DeviceProfile, store

from tests.sdk.fake_runtime import FakeRuntime


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingRuntime(FakeRuntime):
    load = die


def die_at_the_switch() -> None:
    """Just before state.json would name the new bundle."""
    replace = os.replace

    def dying(source: Any, destination: Any) -> None:
        document = json.loads(Path(source).read_bytes()) if Path(destination).name == "state.json" else {}
        active = document.get("models", {}).get("digits", {}).get("active")
        if active and active["version"] == 2:
            die()
        replace(source, destination)

    os.replace = dying


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    given = json.loads(sys.argv[1])
    moment = given.pop("die", "")
    if moment == "at the switch":
        die_at_the_switch()
    if moment == "moving the bundle":
        store.Store.keep_bundle = die
    say("started")
    http = httpx.Client(timeout=120)  # a test may stop its server until another process has started
    client = AerogramClient(
        server=given["server"],
        application="demo",
        channel="production",
        root=given["root"].encode(),
        store=Path(given["store"]),
        profile=DeviceProfile(os="linux", app_version="1.0"),
        runtimes={"numpy": DyingRuntime() if moment == "loading" else FakeRuntime()},
        http=http,
    )
    with http, client:
        say(client.update(["digits"])[0].state)


if __name__ == "__main__":
    main()
