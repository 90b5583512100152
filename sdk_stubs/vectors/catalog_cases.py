"""Catalogs that every implementation must refuse: `decide()` would stumble over them, or have to guess."""  # noqa: INP001 - a folder of data with its scripts, no package

import copy
from typing import Any

RAMP = ("models", "ramped", "experiments", 0)
HOLDBACK = ("models", "ramped", "holdback")
OVERRIDES = ("models", "ramped", "overrides")
KILLED = ("models", "killed", "kill_switch", "manifest")

# Name, path into the catalog of decisions.json, and what to put there.
REFUSED: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("another type", ("_type",), "aerogram-manifest"),
    ("another version of the format", ("spec_version",), "2"),
    ("an application that is no name", ("application",), "../demo"),
    ("a pause of no time", ("poll_after_seconds",), 0),
    ("a pause of true seconds", ("poll_after_seconds",), True),
    ("a condition that this version does not know", ("device_classes", 0, "selector"), {"battery_min": 50}),
    ("a condition of another type", ("device_classes", 0, "selector"), {"os": "ios"}),
    ("a bound of another type", ("device_classes", 0, "selector"), {"ram_mb_min": "6000"}),
    ("two classes of one name", ("device_classes", 0, "name"), "fallback"),
    ("a class without a selector", ("device_classes", 0, "selector"), None),
    ("a model that is no name", ("models",), {"Digits": {}}),
    ("models in a list", ("models",), []),
    ("a current release that is not listed", ("models", "plain", "current"), 9),
    ("a version with a leading zero", ("models", "plain", "versions", "04"), {"variants": []}),
    ("a version that is no number", ("models", "plain", "versions", "four"), {"variants": []}),
    ("an unknown rule for no unit", ("models", "plain", "no_unit"), "newest"),
    ("a floor that is true", ("models", "plain", "floors"), [True]),
    ("a floor that is not listed", ("models", "floored", "floors"), [2]),
    ("a range beyond the last bucket", (*HOLDBACK, "range"), [0, 10_001]),
    ("a range that ends before it begins", (*HOLDBACK, "range"), [7, 6]),
    ("a range of three", (*HOLDBACK, "range"), [0, 1, 2]),
    ("a holdback on a version that is not listed", (*HOLDBACK, "version"), 9),
    ("a salt that JSON would have to escape", (*HOLDBACK, "salt"), 'a"b'),
    ("overrides without a salt", (*OVERRIDES, "salt"), ""),
    ("an override by a plain unit", (*OVERRIDES, "units"), {"unit": 3}),
    ("an override to a version that is not listed", (*OVERRIDES, "units"), {"0" * 64: 9}),
    ("an unknown kind of experiment", (*RAMP, "kind"), "canary"),
    ("an unknown state of an experiment", (*RAMP, "state"), "paused"),
    ("an experiment before its first phase", (*RAMP, "phase"), 0),
    ("an experiment in no layer", (*RAMP, "layer"), None),
    ("two arms for one bucket", (*RAMP, "arms", 0, "ranges"), [[0, 7501]]),
    ("two controls", (*RAMP, "arms", 0, "control"), True),
    ("an arm on a version that is not listed", (*RAMP, "arms", 0, "version"), 9),
    ("two experiments for one bucket", ("models", "compared", "experiments", 1, "layer", "range"), [5999, 9000]),
    ("a manifest outside the folder", (*KILLED, "path"), "../x.json"),
    ("a manifest in a hidden folder", (*KILLED, "path"), "manifests/.git/x.json"),
    ("a digest in capitals", (*KILLED, "sha256"), "A" * 64),
    ("a length below nothing", (*KILLED, "length"), -1),
]
ACCEPTED: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("as it is", ("_type",), "aerogram-catalog"),
    ("a member of a newer version", ("colour",), "blue"),
    ("a member of a newer version in a model", ("models", "plain", "colour"), {"name": "blue"}),
    ("no holdback", (*HOLDBACK[:-1], "holdback"), None),
    ("no overrides", (*OVERRIDES[:-1], "overrides"), None),
    ("empty ranges that would overlap", (*RAMP, "arms", 0, "ranges"), [[8000, 8000], [0, 2500]]),
    ("an arm that is the embedded model", (*RAMP, "arms", 1, "version"), None),
    ("no class at all", ("device_classes",), []),
    ("no model at all", ("models",), {}),
]


def catalogs(catalog: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [{"name": case, "catalog": _changed(catalog, path, value)} for case, path, value in cases]
        for name, cases in (("refused", REFUSED), ("accepted", ACCEPTED))
    }


def _changed(catalog: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Only the model that the change is in, so that the file stays short."""
    document = copy.deepcopy(catalog)
    if path[0] == "models" and len(path) > 1:
        document["models"] = {path[1]: document["models"][path[1]]}
    elif path[0] != "models":
        document["models"] = {"plain": document["models"]["plain"]}
    place: Any = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return document
