"""One channel's part of a revision: its manifests, its catalog and its release index."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from tuf.api.metadata import TargetFile, Targets

from distribution.canonical_json import canonical_bytes
from distribution.catalog import Catalog, CatalogModel, CatalogVariant, Overrides, Reference
from distribution.compiling import ModelPlan, plan_channel, with_version
from distribution.delivery_rules import override_salt
from distribution.manifest import manifest_path
from distribution.models import ManifestSet
from distribution.trust.online import OnlineSigner
from distribution.trust.roles import catalog_path, expiry, is_past_half_life, releases_role
from distribution.trust.tree import TreePointer
from registry.device_classes import with_all_soc_names
from registry.models import Channel


@dataclass
class ChannelPublisher:
    """Writes what is new and signs it. `live` and `manifest_sets` are for the revision's rows."""

    channel: Channel
    signer: OnlineSigner
    before: TreePointer | None
    live: set[int] = field(default_factory=set)
    manifest_sets: list[ManifestSet] = field(default_factory=list)

    @property
    def role(self) -> str:
        return releases_role(self.channel.slug)

    def publish(self, signed_files: dict[str, TargetFile]) -> int:
        """Returns the version of the release index that says what the rows say: the present one, or a new one."""
        plans = plan_channel(self.channel, signed_files)
        self.live = {plan.current.pk for plan in plans if plan.current}
        application = self.channel.application
        catalog = Catalog(
            application=application.slug,
            channel=self.channel.slug,
            poll_after_seconds=settings.AEROGRAM_POLL_AFTER_SECONDS,
            device_classes=tuple(with_all_soc_names(rule.as_rule()) for rule in application.device_classes.all()),
            models={plan.model.slug: self._catalog_model(plan) for plan in plans},
        )
        return self._publish_catalog(catalog)

    def _publish_catalog(self, catalog: Catalog) -> int:
        path = catalog_path(self.channel.slug)
        content = canonical_bytes(catalog.to_json())
        target = TargetFile.from_data(path, content, ["sha256"])
        versions = {name: model.manifest_version for name, model in catalog.models.items()}
        target.unrecognized_fields = {"custom": {"manifest_versions": versions}}
        current = self._current_index()
        if current is not None and current.targets == {path: target} and not self._is_ageing(current.expires):
            return current.version
        stored_as = f"targets/catalogs/{target.hashes['sha256']}.{self.channel.slug}.json"
        self.signer.tree.write_new(stored_as, content)
        version = self.signer.next_version(self.role)
        index = Targets(version=version, expires=expiry(self.role, self.signer.now), targets={path: target})
        self.signer.metadata(index, self.role)
        return version

    def _current_index(self) -> Targets | None:
        version = self.before.role_versions.get(self.role) if self.before else None
        metadata = self.signer.tree.targets(self.role, version) if version else None
        if metadata is None or set(metadata.signatures) != set(self.signer.keyids(self.role)):
            return None  # not there, or its key was replaced
        return metadata.signed

    def _is_ageing(self, expires: datetime) -> bool:
        return is_past_half_life(self.role, expires, self.signer.now)

    def _catalog_model(self, plan: ModelPlan) -> CatalogModel:
        manifests = self._manifest_set(plan)
        references = {path: Reference(**entry) for path, entry in manifests.references.items()}
        versions: dict[int, list[CatalogVariant]] = {}
        for manifest in plan.manifests:
            if manifest.directive == "install":
                path = with_version(manifest, version=manifests.version, expires=self.signer.now).path
                offered = CatalogVariant(
                    name=manifest.variant or "",
                    runtime=manifest.runtime,
                    min_runtime_version=manifest.min_runtime,
                    manifest=references[path],
                )
                versions.setdefault(manifest.model_version or 0, []).append(offered)
        kill_path = manifest_path(self.channel.slug, plan.model.slug, manifests.version, None, None)
        return CatalogModel(
            manifest_version=manifests.version,
            current=plan.current.model_version.number if plan.current else None,
            versions={number: tuple(variants) for number, variants in versions.items()},
            kill_switch=references[kill_path] if plan.is_killed else None,
            floors=plan.floors,
            holdback=plan.holdback,
            overrides=Overrides(override_salt(self.channel.application), plan.pins) if plan.pins else Overrides(),
            experiments=plan.experiments,
        )

    def _manifest_set(self, plan: ModelPlan) -> ManifestSet:
        """The manifests as they were signed before, or signed anew with the next version."""
        known = ManifestSet.objects.filter(channel=self.channel, model=plan.model).first()
        fingerprint = self._fingerprint(plan)
        if known and known.fingerprint == fingerprint and not self._is_ageing(known.expires_at):
            return known
        row = known or ManifestSet(channel=self.channel, model=plan.model, version=0)
        in_tree = self.signer.tree.highest_manifest_version(self.channel.slug, plan.model.slug)
        row.version = max(row.version, in_tree) + 1
        row.fingerprint, row.expires_at = fingerprint, expiry(self.role, self.signer.now)
        row.references = {}
        for manifest in plan.manifests:
            versioned = with_version(manifest, version=row.version, expires=row.expires_at)
            stored = self.signer.manifest(versioned, self.role)
            row.references[stored.path] = {"path": stored.path, "sha256": stored.sha256, "length": stored.length}
        self.manifest_sets.append(row)
        return row

    def _fingerprint(self, plan: ModelPlan) -> str:
        """Of what is said and of whose keys say it: manifests are signed anew when a key is replaced."""
        keyids = " ".join(self.signer.keyids(self.role))
        return hashlib.sha256(f"{plan.fingerprint} {keyids}".encode()).hexdigest()
