#!/usr/bin/env python3
"""Write or check the language-neutral vectors that bind every implementation (server, Python, Kotlin, Swift).

python -m sdk_stubs.vectors.generate           writes them
python -m sdk_stubs.vectors.generate --check   exits 1 if a file differs from what this version computes
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from distribution.canonical_json import canonical_bytes
from distribution.catalog import Catalog, override_key
from distribution.decision import decide
from experiments.bucketing import BOUNDARIES, BUCKETS, HASH_VERSION, bucket, in_range, truncated_hash
from registry.device_classes import DeviceClass, DeviceProfile, compare_versions, match
from sdk_stubs.vectors.catalog_cases import catalogs
from sdk_stubs.vectors.encryption_cases import encryption
from sdk_stubs.vectors.json_text_cases import json_texts
from sdk_stubs.vectors.patch_cases import patches
from sdk_stubs.vectors.signature_cases import signatures

FOLDER = Path(__file__).parent
LAYER, ARM, SLICE = "layer:6f2c:1", "arm:0b51:7", "holdback:digits:1"

# Mozilla Nimbus' published cases: application-services, components/nimbus/src/tests/test_sampling.rs.
NIMBUS_SALT = "bug-1637316-message-aboutwelcome-pull-factor-reinforcement-76-rel-release-76-77"
NIMBUS = [
    ("299eed1e-be6d-457d-9e53-da7b1a03f10d", (0, 2000), True),
    ("299eed1e-be6d-457d-9e53-da7b1a03f10d", (2000, 3000), False),
    ("c590d3f5-fe9d-4820-97c9-f403535dd306", (0, 2000), False),
    ("c590d3f5-fe9d-4820-97c9-f403535dd306", (2000, 3000), True),
]


def units(count: int) -> list[str]:
    return [str(uuid5(NAMESPACE_URL, f"urn:aerogram:vector:{index}")) for index in range(count)]


def buckets() -> dict[str, Any]:
    pairs = [(unit, salt) for unit in [*units(40), "a", "A:b.c_d~e-f", "x" * 128] for salt in (LAYER, ARM, "s p a c e")]
    return {
        "hash_version": HASH_VERSION,
        "buckets": BUCKETS,
        "boundaries": [{"index": i, "value": BOUNDARIES[i]} for i in (0, 1, 2, 229, 458, 5000, 9999, 10_000)],
        "nimbus": [
            {"unit": unit, "salt": NIMBUS_SALT, "range": list(span), "inside": inside} for unit, span, inside in NIMBUS
        ],
        "cases": [
            {"unit": unit, "salt": salt, "hash": truncated_hash(unit, salt).hex(), "bucket": bucket(unit, salt)}
            for unit, salt in pairs
        ],
        "ranges": [
            {"bucket": position, "range": list(span), "inside": in_range(position, span)}
            for position, span in (
                (0, (0, 1)),
                (1, (0, 1)),
                (0, (0, 0)),
                (9999, (9000, 10_000)),
                (8999, (9000, 10_000)),
            )
        ],
        "overrides": [{"salt": "o", "unit": unit, "key": override_key("o", unit)} for unit in units(3)],
    }


def device_classes() -> dict[str, Any]:
    versions = ("", "0", "1", "1.0", "1.0.0", "1.2", "1.10", "1.10.0-rc1", "2", "14", "14.0.1", "x", "1..2", "010")
    classes = _classes()
    return {
        "compare_versions": [{"a": a, "b": b, "result": compare_versions(a, b)} for a in versions for b in versions],
        "classes": [item.to_json() for item in classes],
        "match": [
            {"profile": _profile_json(profile), "device_class": found.device_class.name if found.device_class else None}
            for profile in [*_profiles(), *_silent_profiles()]
            for found in (match(profile, classes),)
        ],
        "match_without_fallback": [
            {"profile": _profile_json(profile), "device_class": found.device_class.name if found.device_class else None}
            for profile in [*_profiles(), *_silent_profiles()]
            for found in (match(profile, classes[:-1]),)
        ],
    }


def decisions() -> dict[str, Any]:
    catalog_json = _catalog_json()
    catalog = Catalog.from_json(catalog_json)
    cases = []
    profiles = _profiles()
    for index, unit in enumerate([None, *units(60)]):
        profile = profiles[index % len(profiles)]
        for name in [*catalog.models, "unknown"]:
            for current in (None, 1, 4) if index % 5 == 0 else (None,):
                decision = decide(profile, unit, name, catalog, current)
                cases.append(
                    {
                        "profile": profiles.index(profile),
                        "unit": unit,
                        "model": name,
                        "current_version": current,
                        "decision": decision.to_json(),
                        "manifest": decision.manifest.path if decision.manifest else None,
                    }
                )
    return {"catalog": catalog_json, "profiles": [_profile_json(profile) for profile in profiles], "cases": cases}


def canonical_json() -> dict[str, Any]:
    values: list[Any] = [
        {},
        {"b": 1, "a": 2},
        {"a": [], "b": {}, "c": [1, [2, {"d": None}]]},
        {"true": True, "false": False, "null": None},
        {"integer": 9007199254740991, "negative": -1, "zero": 0},
        {"quote": 'a"b', "backslash": "a\\b", "slash": "a/b", "newline": "a\nb", "tab": "a\tb", "control": "\u0001"},
        {"text": "für Ärzte", "emoji": "\U0001f680", "separator": "\u2028"},
        {"Z": 1, "a": 2, "A": 3, "ä": 4, "aa": 5, "": 6, "\uff61": 7, "\U0001f680": 8},
        {"_type": "aerogram-manifest", "files": {"b/c": {"length": 1}, "a": {"length": 2}}},
    ]
    return {
        "cases": [{"value": value, "canonical_utf8_hex": canonical_bytes(value).hex()} for value in values],
        "refused": [{"float": 1.5}, {"large": 2**53}],
    }


def _classes() -> tuple[DeviceClass, ...]:
    documents: list[dict[str, Any]] = [
        {
            "name": "ios-new",
            "selector": {"os": ["ios"], "os_version_min": "17.0", "device_exclude": ["Apple/iPhone11,8"]},
            "variants": ["coreml-fp16"],
            "delegate_order": ["npu", "gpu"],
        },
        {
            "name": "android-npu",
            "selector": {"os": ["android"], "accelerators_all": ["gpu", "npu"], "ram_mb_min": 6000},
            "variants": ["tflite-full-int8", "tflite-float16"],
            "delegate_order": ["npu", "gpu", "xnnpack"],
        },
        {
            "name": "android-soc",
            "selector": {"os": ["android"], "soc": ["SM8550", "Tensor G3"], "app_version_max": "3.9"},
            "variants": ["tflite-float16"],
        },
        {
            "name": "android-old",
            "selector": {"os": ["android"], "os_version_max": "10", "runtime": ["litert"], "ram_mb_max": 3000},
            "variants": ["tflite-dynamic-int8"],
        },
        {"name": "fallback", "selector": {}, "variants": ["tflite-float32"], "delegate_order": ["xnnpack"]},
    ]
    return tuple(DeviceClass.from_json(document) for document in documents)


def _profiles() -> list[DeviceProfile]:
    both = frozenset({"gpu", "npu"})
    return [
        DeviceProfile("android", "14", "3.2.1", "litert", "2.1.0", "Google/Pixel 8", "Tensor G3", 8192, both),
        DeviceProfile("android", "14", "3.2.1", "litert", "1.4.0", "Google/Pixel 8", "Tensor G3", 8192, both),
        DeviceProfile("android", "13", "3.9", "litert", "2.1.0", "Samsung/SM-S911B", "SM8550"),
        DeviceProfile("android", "13", "3.9.1", "litert", "2.1.0", "Samsung/SM-S911B", "SM8550"),
        DeviceProfile("android", "10.0", "2", "litert", "2.0", ram_mb=3000),
        DeviceProfile("android", "10.0.1", "2", "litert", "2.0", ram_mb=3000),
        DeviceProfile("android"),
        DeviceProfile("ios", "17.2", "5", "coreml", "7", "Apple/iPhone15,2"),
        DeviceProfile("ios", "17.2", "5", "coreml", "7", "Apple/iPhone11,8"),
        DeviceProfile("ios", "16.9.9", "5", "coreml", "7"),
        DeviceProfile("", ""),
    ]


def _silent_profiles() -> list[DeviceProfile]:
    """Each leaves out one fact that a class has a bound on, and would be of that class otherwise."""
    return [
        DeviceProfile("ios"),
        DeviceProfile("android", soc="SM8550"),
        DeviceProfile("android", runtime="litert", ram_mb=3000),
        DeviceProfile("android", "10", runtime="litert"),
        DeviceProfile("android", "10", ram_mb=3000),
        DeviceProfile("android", accelerators=frozenset({"gpu", "npu"})),
        DeviceProfile("android", ram_mb=8192),
        DeviceProfile("", "10", runtime="litert", ram_mb=3000),
    ]


def _profile_json(profile: DeviceProfile) -> dict[str, Any]:
    return asdict(profile) | {"accelerators": sorted(profile.accelerators)}


def _catalog_json() -> dict[str, Any]:
    everything = ("tflite-float32", "tflite-float16", "tflite-dynamic-int8", "tflite-full-int8", "coreml-fp16")
    ramp = [
        {"name": "treatment", "version": 4, "control": False, "ranges": [[0, 2500]]},
        {"name": "control", "version": 3, "control": True, "ranges": [[7500, 10_000]]},
    ]
    ab = [
        {"name": "a", "version": 3, "control": True, "ranges": [[0, 3000], [9000, 10_000]]},
        {"name": "b", "version": 5, "control": False, "ranges": [[3000, 9000]]},
    ]
    embedded = [
        {"name": "app", "version": None, "control": True, "ranges": [[0, 5000]]},
        {"name": "first", "version": 4, "control": False, "ranges": [[5000, 10_000]]},
    ]
    versions = {"3": everything, "4": everything[:4], "5": ("tflite-float32",)}
    holdback = {"salt": SLICE, "range": [0, 1000], "version": 3}
    pinned = {override_key("o", unit): 4 for unit in units(3)}
    return {
        "_type": "aerogram-catalog",
        "spec_version": "1",
        "application": "demo",
        "channel": "production",
        "poll_after_seconds": 14_400,
        "device_classes": [item.to_json() for item in _classes()],
        "models": {
            "plain": _model("plain", versions, current=4),
            "ramped": _model(
                "ramped",
                versions,
                current=3,
                holdback=holdback,
                overrides={"salt": "o", "units": pinned},
                experiments=[_experiment("ramp", "rollout", ramp)],
            ),
            "halted": _model(
                "halted", versions, current=3, experiments=[_experiment("ramp", "rollout", ramp, "halted")]
            ),
            "class-halted": _model(
                "class-halted",
                versions,
                current=3,
                experiments=[_experiment("ramp", "rollout", ramp) | {"halted_classes": ["android-npu", "fallback"]}],
            ),
            "compared": _model(
                "compared",
                versions,
                current=3,
                experiments=[
                    _experiment("first", "ab", ab, span=[0, 6000]),
                    _experiment("second", "aa", ramp, span=[6000, 9000]),
                ],
            ),
            "layered": _model(
                "layered",
                versions,
                current=3,
                experiments=[
                    _experiment("stayed", "holdback", ab, span=[0, 5000]),
                    _experiment("bare", "ab", embedded) | {"layer": {"salt": "layer:2:1", "range": [2500, 10_000]}},
                ],
            ),
            "floored": _model("floored", versions, current=5, floors=[3, 4]),
            "first": _model("first", versions, current=None, no_unit="none"),
            "killed": _model(
                "killed", versions, current=4, kill_switch={"manifest": _reference("killed", "use_embedded")}
            ),
        },
    }


def _model(name: str, versions: dict[str, tuple[str, ...]], **members: Any) -> dict[str, Any]:
    return {
        "manifest_version": 7,
        "kill_switch": None,
        "no_unit": "current",
        "floors": [],
        "holdback": None,
        "overrides": {"salt": "", "units": {}},
        "experiments": [],
        "versions": {
            number: {
                "variants": [
                    {
                        "name": variant,
                        "runtime": "coreml" if variant.startswith("coreml") else "litert",
                        "min_runtime_version": "2.0" if variant == "tflite-full-int8" else "",
                        "manifest": _reference(name, f"{number}.{variant}"),
                    }
                    for variant in variants
                ]
            }
            for number, variants in versions.items()
        },
    } | members


def _experiment(
    slug: str, kind: str, arms: list[dict[str, Any]], state: str = "running", *, span: list[int] | None = None
) -> dict[str, Any]:
    return {
        "slug": slug,
        "kind": kind,
        "state": state,
        "phase": 2,
        "layer": {"salt": LAYER, "range": span or [0, 10_000]},
        "arm_salt": ARM,
        "arms": arms,
    }


def _reference(model: str, rest: str) -> dict[str, Any]:
    return {"path": f"manifests/production/{model}/7.{rest}.json", "sha256": "0" * 64, "length": 1}


VECTORS: dict[str, Callable[[], dict[str, Any]]] = {
    "buckets.json": buckets,
    "device_classes.json": device_classes,
    "decisions.json": decisions,
    "catalogs.json": lambda: catalogs(_catalog_json()),
    "canonical_json.json": canonical_json,
    "json_texts.json": json_texts,
    "signatures.json": signatures,
    "encryption.json": encryption,
    "patches.json": patches,
}


def render(name: str) -> str:
    return json.dumps(VECTORS[name](), indent=1, sort_keys=True) + "\n"


def stale() -> list[str]:
    """Names of the files that differ from what this version computes."""
    return [
        name for name in VECTORS if not (FOLDER / name).is_file() or (FOLDER / name).read_text("utf-8") != render(name)
    ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        differing = stale()
        for name in differing:
            sys.stderr.write(f"{name}: expected what this version computes, got something else\n")
        return 1 if differing else 0
    for name in VECTORS:
        (FOLDER / name).write_text(render(name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
