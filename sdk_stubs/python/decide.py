#!/usr/bin/env python3
"""The runner of `sdk_stubs/README.md`: what this SDK decides for the devices of a file, one line of JSON each."""

import json
import sys
from pathlib import Path
from typing import Any

from aerogram_sdk.catalog import Catalog
from aerogram_sdk.decision import Decision, decide
from aerogram_sdk.profile import DeviceProfile


def main(arguments: list[str]) -> int:
    (path,) = arguments
    document = json.loads(Path(path).read_text("utf-8"))
    catalogs = [Catalog.from_json(each) for each in document["catalogs"]]
    for device in document["devices"]:
        catalog, profile = catalogs[device["catalog"]], profile_of(device["profile"])
        decision = decide(profile, device["unit"], device["model"], catalog, device["current"])
        sys.stdout.write(json.dumps(line(decision)) + "\n")
    return 0


def profile_of(document: dict[str, Any]) -> DeviceProfile:
    members = {"os": "", **document, "accelerators": frozenset(document.get("accelerators", ()))}
    return DeviceProfile(**members)


def line(decision: Decision) -> dict[str, Any]:
    return decision._asdict() | {"manifest": decision.manifest.sha256 if decision.manifest else None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
