"""From rows to what will be signed: the manifests and the catalog of each channel. Writes nothing."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tuf.api.metadata import TargetFile

from distribution.canonical_json import canonical_bytes
from distribution.catalog import CatalogExperiment, Holdback
from distribution.manifest import Manifest, ManifestFile, Package, Part, Sanity, target_path
from distribution.models import Release
from distribution.protection.served import served_variant
from distribution.served_experiments import ServedExperiments
from registry.blob_store import blob_store
from registry.models import Artifact, Channel, DeviceClass, ModelVersion, RegisteredModel, Variant, VariantFile
from registry.services.conversions.bundling import ARCHIVE

NEVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ModelPlan:
    """What one channel should say of one model. Manifests have no version and no expiry yet."""

    model: RegisteredModel
    current: Release | None
    manifests: tuple[Manifest, ...]
    is_killed: bool
    floors: tuple[int, ...] = ()
    pins: Mapping[str, int] = field(default_factory=dict)
    experiments: tuple[CatalogExperiment, ...] = ()
    holdback: Holdback | None = None

    @property
    def fingerprint(self) -> str:
        """Equal for equal content, whatever version and expiry it was signed with."""
        documents = [manifest.to_signed() for manifest in self.manifests]
        return hashlib.sha256(canonical_bytes({"manifests": documents})).hexdigest()


def plan_channel(channel: Channel, signed_files: Mapping[str, TargetFile]) -> list[ModelPlan]:
    """A plan for each model of the channel that was ever released or stopped there.

    `signed_files` are the publisher's targets: a release whose files are not all among them waits, and the one before
    it stays current.
    """
    killed = set(channel.kill_switches.filter(lifted_at__isnull=True).values_list("model_id", flat=True))
    models = RegisteredModel.objects.filter(application=channel.application)
    device_classes = list(channel.application.device_classes.all())
    plans = []
    for model in models:
        current = current_release(channel, model, signed_files)
        exceptions = _exceptions(channel, model, signed_files)
        if current is None and model.pk not in killed and not exceptions.are_any:
            continue
        offered = {current.model_version.number: current} if current else {}
        manifests = tuple(
            manifest
            for _, release in sorted((exceptions.releases | offered).items())
            for manifest in _install_manifests(channel, release, signed_files, device_classes)
        )
        if model.pk in killed:
            manifests = (*manifests, _use_embedded_manifest(channel, model, current))
        plans.append(
            ModelPlan(
                model,
                current,
                manifests,
                model.pk in killed,
                exceptions.floors,
                exceptions.pins,
                exceptions.experiments,
                exceptions.holdback,
            )
        )
    return plans


@dataclass(frozen=True)
class _Exceptions:
    """Floors, pins, experiments and holdback of a model, and the releases they need beside the current one.

    `pins`: those of the channel, and overrides of experiments where the unit has none.
    """

    releases: dict[int, Release]
    floors: tuple[int, ...]
    pins: dict[str, int]
    experiments: tuple[CatalogExperiment, ...]
    holdback: Holdback | None

    @property
    def are_any(self) -> bool:
        return bool(self.pins or self.experiments or self.holdback)


def _exceptions(channel: Channel, model: RegisteredModel, signed_files: Mapping[str, TargetFile]) -> _Exceptions:
    """Those whose version the publisher has signed; the others wait, or are gone, as releases do."""
    floors = [number for rules in channel.delivery_rules.filter(model=model) for number in rules.floors]
    pins = dict(channel.pins.filter(model=model).values_list("unit_key", "version__number"))
    served = ServedExperiments.of(channel, model)
    releases: dict[int, Release] = {}
    for number in {*floors, *pins.values(), *served.versions()}:
        release = _signed_release(channel, model, number, signed_files)
        if release is not None:
            releases[number] = release
    pinned = served.overrides(releases.__contains__) | pins
    return _Exceptions(
        releases,
        tuple(number for number in floors if number in releases),
        {key: number for key, number in sorted(pinned.items()) if number in releases},
        served.catalogued(releases.__contains__),
        served.holdback(releases.__contains__),
    )


def _signed_release(
    channel: Channel, model: RegisteredModel, number: int, signed_files: Mapping[str, TargetFile]
) -> Release | None:
    """The version's newest release of any channel: files are the publisher's, whoever was offered them first."""
    releases = (
        Release.objects.filter(
            channel__application=channel.application_id,
            model_version__model=model,
            model_version__number=number,
            model_version__yanked_at__isnull=True,
        )
        .select_related("model_version__model", "channel__application")
        .order_by("-id")
    )
    return next((release for release in releases if signed_variants(release, signed_files)), None)


def current_release(channel: Channel, model: RegisteredModel, signed_files: Mapping[str, TargetFile]) -> Release | None:
    """The newest release that devices can install now."""
    releases = (
        Release.objects.to_channel()
        .filter(channel=channel, model_version__model=model, model_version__yanked_at__isnull=True)
        .select_related("model_version__model", "channel__application")
        .order_by("-id")
    )
    return next((release for release in releases if signed_variants(release, signed_files)), None)


def signed_variants(release: Release, signed_files: Mapping[str, TargetFile]) -> list[Variant]:
    """The release's variants of which the publisher signed every file with this very digest and release counter."""
    version = release.model_version
    return [
        variant
        for variant in version.variants.with_parts_in_use().prefetch_related("files__artifact", "parts__part__version")
        if release.holds(variant.name) and _is_whole(release, variant, signed_files)
    ]


def _is_whole(release: Release, variant: Variant, signed_files: Mapping[str, TargetFile]) -> bool:
    """Did the publisher sign what devices get of every file?"""
    version, served = release.model_version, served_variant(variant, is_protected=release.is_protected).artifacts
    return all(
        file.path in served
        and _is_signed(
            signed_files.get(target_path(version.model.slug, version.number, variant.name, file.path)),
            served[file.path].sha256,
            release.release_counter,
        )
        for file in variant.files.all()
    )


def _is_signed(target: TargetFile | None, sha256: str, release_counter: int) -> bool:
    if target is None or target.hashes.get("sha256") != sha256:
        return False
    custom = target.custom or {}
    counter = custom.get("release_counter")
    return counter == release_counter and counter >= custom.get("minimum_release_counter", 1)


def _install_manifests(
    channel: Channel, release: Release, signed_files: Mapping[str, TargetFile], device_classes: list[DeviceClass]
) -> tuple[Manifest, ...]:
    return tuple(
        _install_manifest(channel, release, variant, device_classes)
        for variant in signed_variants(release, signed_files)
    )


def _install_manifest(
    channel: Channel, release: Release, variant: Variant, device_classes: list[DeviceClass]
) -> Manifest:
    version = release.model_version
    served = served_variant(variant, is_protected=release.is_protected)
    files = {
        file.path: _manifest_file(version, variant, file, served.artifacts[file.path]) for file in variant.files.all()
    }
    parts = {row.name: row.part for row in variant.parts.all()}
    plain = {file.path: file.artifact for file in variant.files.all()}
    own = {path: file for path, file in files.items() if path.split("/")[0] not in parts}
    return Manifest(
        version=1,
        expires=NEVER,
        application=channel.application.slug,
        channel=channel.slug,
        model=version.model.slug,
        release_counter=release.release_counter,
        model_version=version.number,
        variant=variant.name,
        device_classes={
            rule.name: tuple(rule.delegate_order) for rule in device_classes if variant.name in rule.variants
        },
        runtime=variant.runtime,
        min_runtime=variant.min_runtime_version,
        entry=variant.entry,
        files={path: file for path, file in files.items() if file.role != ARCHIVE},
        parts={name: _part(name, part, files, plain) for name, part in parts.items()},
        packages={
            root: Package(about["tree_sha256"], files[about["archive"]]) for root, about in variant.packages.items()
        },
        signature_schema=_signature_schema(variant, _path_of("labels", own)),
        sanity=_sanity(plain, _path_of("sanity", own)),
        lineage=_lineage(variant),
        encryption=served.encryption,
    )


def _manifest_file(version: ModelVersion, variant: Variant, file: VariantFile, served: Artifact) -> ManifestFile:
    return ManifestFile(
        length=served.size_bytes,
        sha256=served.sha256,
        role=file.role,
        media_type=file.media_type,
        target=target_path(version.model.slug, version.number, variant.name, file.path),
    )


def _part(name: str, part: Variant, files: Mapping[str, ManifestFile], plain: Mapping[str, Artifact]) -> Part:
    """What the bundle's manifest says of a part, whose files stand below its name."""
    own = {path: file for path, file in files.items() if path.startswith(f"{name}/")}
    return Part(
        entry=f"{name}/{part.entry}",
        signature_schema=_signature_schema(part, _path_of("labels", own)),
        sanity=_sanity(plain, _path_of("sanity", own)),
        lineage={"model": part.version.model.slug, "model_version": part.version.number, **_lineage(part)},
    )


def _path_of(role: str, files: Mapping[str, ManifestFile]) -> str | None:
    return next((path for path, file in files.items() if file.role == role), None)


def _use_embedded_manifest(channel: Channel, model: RegisteredModel, current: Release | None) -> Manifest:
    return Manifest(
        version=1,
        expires=NEVER,
        application=channel.application.slug,
        channel=channel.slug,
        model=model.slug,
        release_counter=current.release_counter if current else 0,
        directive="use_embedded",
    )


def _signature_schema(variant: Variant, labels_path: str | None) -> dict[str, Any]:
    """Names, shapes and dtypes. Quantisation scales are floats, never signed; they stand in the file itself."""
    signature = variant.report.get("signature") or {}
    sides = {
        side: [{name: tensor[name] for name in ("name", "shape", "dtype")} for tensor in signature.get(side, [])]
        for side in ("inputs", "outputs")
    }
    return {**sides, "labels_file": labels_path}


def _sanity(plain: Mapping[str, Artifact], path: str | None) -> Sanity | None:
    if path is None:
        return None
    with blob_store().open(plain[path].sha256) as stream:
        return Sanity(path=path, tolerance=json.load(stream)["tolerance"])


def _lineage(variant: Variant) -> dict[str, Any]:
    version = variant.version
    return {
        "source_sha256": version.source.sha256,
        "source_format": version.source_format,
        "recipe": variant.name,
        "recipe_sha256": variant.recipe_digest,
        "evaluation_set_sha256": version.evaluation_set.sha256 if version.evaluation_set else None,
        "training_set_sha256": version.training_set.sha256 if version.training_set else None,
        "converter_versions": dict(variant.report.get("converter_versions") or {}),
    }


def with_version(manifest: Manifest, *, version: int, expires: datetime) -> Manifest:
    return replace(manifest, version=version, expires=expires)
