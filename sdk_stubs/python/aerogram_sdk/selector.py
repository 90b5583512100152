"""Which model runs, and what a verified manifest asks for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aerogram_sdk.errors import BannedOnDevice, PolicyDeferred, RuntimeUnsupported, SchemaNotAccepted
from aerogram_sdk.manifest import Manifest, SignatureSchema
from aerogram_sdk.store import Installed, ModelRecord
from aerogram_sdk.versions import older

FAILURES_TO_BAN = 3


class Step(StrEnum):
    """What remains to do for a verified manifest."""

    NOTHING = "nothing"
    INSTALL = "install"
    USE_EMBEDDED = "use_embedded"


class Source(StrEnum):
    """Where a running model came from."""

    ACTIVE = "active"
    PREVIOUS = "previous"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an app knows of the moment and a Python process cannot: a network paid by the byte, a charger."""

    metered: bool = False
    charging: bool = True


def next_step(manifest: Manifest, record: ModelRecord) -> Step:
    """What a verified manifest still asks for.

    | directive      | record                              | step         |
    |----------------|-------------------------------------|--------------|
    | `use_embedded` | set aside already                   | nothing      |
    | `use_embedded` | anything else                       | use_embedded |
    | `install`      | that bundle active, not set aside   | nothing      |
    | `install`      | anything else                       | install      |
    """
    if manifest.directive == "use_embedded":
        return Step.NOTHING if record.directive == "use_embedded" else Step.USE_EMBEDDED
    active = record.active and record.directive == "install" and record.active.bundle == manifest.bundle_id
    return Step.NOTHING if active else Step.INSTALL


def running_order(record: ModelRecord, *, has_embedded: bool) -> list[tuple[Source, Installed | None]]:
    """Models to try when one is opened, best first; empty if nothing may run."""
    order: list[tuple[Source, Installed | None]] = []
    if record.directive == "install":
        pairs = ((Source.ACTIVE, record.active), (Source.PREVIOUS, record.previous))
        order += [(source, installed) for source, installed in pairs if installed]
    return order + ([(Source.EMBEDDED, None)] if has_embedded else [])


def refuse_unsuitable(
    manifest: Manifest, *, runtimes: Mapping[str, str], wanted: Mapping[str, SignatureSchema | None]
) -> None:
    """`runtimes`: version by name of what this app carries. `wanted`: by model, parts as `model/part`.

    A part that the app wants must be there; one that it does not know is loaded all the same. Raises RuntimeUnsupported
    or SchemaNotAccepted.
    """
    version = runtimes.get(manifest.runtime)
    if version is None or older(version, manifest.min_runtime):
        raise RuntimeUnsupported(
            f"runtime: expected {manifest.runtime} {manifest.min_runtime or 'of any version'}, got {dict(runtimes)}"
        )
    for name, expected in wanted.items():
        model, _, part = name.partition("/")
        if model == manifest.model and expected is not None:
            found = manifest.parts.get(part) if part else manifest.main
            schema = found.signature_schema if found else None
            if schema is None or not schema.serves(expected):
                raise SchemaNotAccepted(f"signature schema of {name}: expected {expected}, got {schema}")


def refuse_banned(failures: int) -> None:
    if failures >= FAILURES_TO_BAN:
        raise BannedOnDevice(f"bundle: expected fewer than {FAILURES_TO_BAN} failures on this device, got {failures}")


def refuse_deferred(manifest: Manifest, conditions: Conditions, missing_bytes: int) -> None:
    """Raises PolicyDeferred if the manifest's policy asks to wait; nothing to fetch needs no waiting."""
    policy = manifest.policy
    if not missing_bytes:
        return
    if policy.charging_only and not conditions.charging:
        raise PolicyDeferred("policy: expected a charger, got none")
    if conditions.metered and policy.wifi_only:
        raise PolicyDeferred("policy: expected an unmetered network, got a metered one")
    limit = policy.max_cellular_bytes
    if conditions.metered and limit is not None and missing_bytes > limit:
        raise PolicyDeferred(f"policy: expected at most {limit} bytes on a metered network, got {missing_bytes}")
