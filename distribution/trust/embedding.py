"""What an app ships with: the root, and for each variant the signed manifest and the publisher's word on it."""

import json
from typing import Any

from distribution import errors
from distribution.trust.expected import signed_model_roles
from distribution.trust.roles import TARGETS, catalog_path, releases_role
from distribution.trust.tree import SignedTree, TreePointer
from registry.blob_store import blob_store
from registry.models import Channel, RegisteredModel


def embedded(channel: Channel, model: RegisteredModel, variant: str | None = None) -> dict[str, Any]:
    """Of the release that devices have now. Raises `NotReleased`."""
    tree = SignedTree(blob_store(), channel.application.slug)
    pointer, root = tree.current(), tree.root()
    entry = catalog_document(tree, pointer, channel)["models"].get(model.slug) if pointer and root else None
    if pointer is None or root is None or entry is None or entry["current"] is None:
        raise errors.NotReleased(f"expected a release of {model} on {channel}, found none")
    offered = {item["name"]: item["manifest"]["path"] for item in entry["versions"][str(entry["current"])]["variants"]}
    if variant is not None and variant not in offered:
        raise errors.NotReleased(f"expected one of the variants {', '.join(offered)}, got {variant!r}")
    manifests = {name: json.loads(tree.read(path) or b"") for name, path in offered.items() if variant in (None, name)}
    return {
        "application": channel.application.slug,
        "channel": channel.slug,
        "model": model.slug,
        "root": root.to_dict(),
        "targets_version": pointer.role_versions[TARGETS],
        "minimum_release_counter": _minimum(tree, pointer, channel, model),
        "variants": {name: _facts(manifest) for name, manifest in manifests.items()},
    }


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    signed = manifest["signed"]
    names = ("model_version", "release_counter", "runtime", "entry", "files", "parts", "packages", "signature_schema")
    return {**{name: signed[name] for name in names if name in signed}, "manifest": manifest}


def catalog_document(tree: SignedTree, pointer: TreePointer, channel: Channel) -> dict[str, Any]:
    """The channel's catalog as published. Raises `NotReleased`."""
    role = releases_role(channel.slug)
    index = tree.targets(role, pointer.role_versions.get(role, 0))
    if index is None:
        raise errors.NotReleased(f"expected {channel} to be published, its role {role} has signed nothing yet")
    digest = index.signed.targets[catalog_path(channel.slug)].hashes["sha256"]
    catalog: dict[str, Any] = json.loads(tree.read(f"targets/catalogs/{digest}.{channel.slug}.json") or b"")
    return catalog


def _minimum(tree: SignedTree, pointer: TreePointer, channel: Channel, model: RegisteredModel) -> int:
    """As the publisher signed it last."""
    targets = tree.targets(TARGETS, pointer.role_versions[TARGETS])
    assert targets is not None, "a published snapshot lists only what is stored"
    roles = signed_model_roles(channel.application, tree, targets.signed)
    files = [targets.signed, *roles.values()]
    found = [target.custom or {} for role in files for target in role.targets.values()]
    return max((item["minimum_release_counter"] for item in found if item.get("model") == model.slug), default=1)
