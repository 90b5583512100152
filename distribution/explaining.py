"""Why one device gets what it gets: the poll's own question, and every rule that was tried on the way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distribution import errors
from distribution.catalog import Catalog
from distribution.decision import Decision, Outcome, Step, decide
from distribution.device_plane.problems import Problem
from distribution.device_plane.query import PollQuery, parse_query, read_unit
from distribution.trust.embedding import catalog_document
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.errors import Invalid
from registry.models import Channel


@dataclass(frozen=True)
class Explanation:
    """`revision`: of the published tree that the answer was computed from.

    `encryption`: how files of a protected variant are opened, as its manifest says; no patch is ever offered of these.
    """

    revision: int
    decision: Decision
    steps: tuple[Step, ...]
    encryption: Mapping[str, Any] | None = None

    @property
    def first_failed(self) -> Step | None:
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def to_json(self) -> dict[str, Any]:
        failed, manifest = self.first_failed, self.decision.manifest
        return {
            "revision": self.revision,
            "decision": self.decision.to_json(),
            "manifest": manifest.to_json() if manifest else None,
            "steps": [step._asdict() for step in self.steps],
            "first_failed": failed._asdict() if failed else None,
            "encryption": self.encryption,
        }


def explain(channel: Channel, model: str, query_string: bytes, unit: str | None) -> Explanation:
    """What a poll with this query and unit is answered now. Raises `Invalid` naming the field, `NotReleased`."""
    query = _read(query_string, model, unit)
    revision, catalog = published_catalog(channel)
    steps: list[Step] = []
    decision = decide(query.profile, unit or None, model, catalog, query.current.get(model), trace=steps)
    return Explanation(revision, decision, tuple(steps), _encryption(channel, decision))


def published_catalog(channel: Channel) -> tuple[int, Catalog]:
    """The revision that devices see, and the channel's catalog in it. Raises `NotReleased`."""
    tree = SignedTree(blob_store(), channel.application.slug)
    pointer = tree.current()
    if pointer is None:
        raise errors.NotReleased(f"expected a published revision of {channel.application}, found none")
    return pointer.revision, Catalog.from_json(catalog_document(tree, pointer, channel))


def _encryption(channel: Channel, decision: Decision) -> Mapping[str, Any] | None:
    if decision.manifest is None:
        return None
    content = SignedTree(blob_store(), channel.application.slug).read(decision.manifest.path)
    told: Mapping[str, Any] | None = json.loads(content or b"{}").get("signed", {}).get("encryption")
    return told and {name: told[name] for name in ("algorithm", "key_id")}


def _read(query_string: bytes, model: str, unit: str | None) -> PollQuery:
    try:
        if unit:
            read_unit(unit.encode("utf-8", "replace"))
        return parse_query(query_string, model)
    except Problem as problem:
        raise Invalid(problem.detail, field=problem.field) from problem
