"""What `decide()` answers to the units of one kind of device, each answer worked out once. Pure.

Of a unit, a decision depends only on where its buckets lie between the boundaries of the ranges that a model's
experiments and holdback name, and on overrides. So a plan keeps a tree: a fork for each bucket that `decide()` asked
for, a branch for each stretch between two boundaries, an outcome at each end. It grows by asking `decide()` itself
whenever a unit arrives at a branch that nobody took before; thereafter a poll costs one hash a fork.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from distribution.catalog import Catalog, CatalogModel, override_key
from distribution.decision import Decision, decide
from experiments.bucketing import BOUNDARIES, BUCKETS, bucket
from registry.device_classes import DeviceProfile, Match

if TYPE_CHECKING:
    from distribution.device_plane.poll import Answer

MOST_NODES = 2_048
_HASH_BYTES = 6
# As bytes: a digest of 32 bytes compares with a boundary of 6 as its first 6 bytes do, equal counting as above.
_EDGES = tuple(boundary.to_bytes(_HASH_BYTES, "big") for boundary in BOUNDARIES)


class Outcome:
    """A decision at the end of a plan. `parts` tells apart what an answer shows: the manifest follows from it."""

    __slots__ = ("answer", "decision", "parts", "revision")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.parts = (decision[0], *decision[2:8])
        # The rendered answer of the last revision that needed one, for polls of this model alone.
        self.revision = 0
        self.answer: Answer | None = None


class Fork:
    """One bucket. `ends` are the boundaries that matter under this salt, `branches` one more than they are."""

    __slots__ = ("branches", "ends", "suffix")

    def __init__(self, salt: str, ends: tuple[bytes, ...]) -> None:
        self.suffix = f'{salt}"]'.encode("ascii")
        self.ends = ends
        self.branches: list[Node | None] = [None] * (len(ends) + 1)


Node: TypeAlias = Fork | Outcome


class Plan:
    """Decisions of one model for devices of one profile that run `current_version`. `nodes` tells its size."""

    def __init__(
        self, profile: DeviceProfile, model_name: str, catalog: Catalog, current_version: int | None, matched: Match
    ) -> None:
        self.nodes = 0
        self._asked = (profile, model_name, catalog, current_version, matched)
        model = catalog.models.get(model_name)
        self._overrides = model.overrides if model is not None and model.overrides.units else None
        self._ends = _ends_by_salt(model) if model is not None else {}
        self._root: Node | None = None
        self._without_unit: Outcome | None = None

    def outcome(self, unit: str | None) -> Outcome:
        """What `decide()` answers for `unit`, which must be of the form that `read_unit` lets through."""
        if unit is None:
            if self._without_unit is None:
                self._without_unit = Outcome(self._decide(None, []))
            return self._without_unit
        overrides = self._overrides
        if overrides is not None and override_key(overrides.salt, unit) in overrides.units:
            return Outcome(self._decide(unit, []))
        node = self._root
        start = f'["{unit}","'.encode("ascii")
        while node.__class__ is Fork:
            digest = sha256(start + node.suffix).digest()
            node = node.branches[bisect_right(node.ends, digest)]
        return self._learn(unit) if node is None else node  # type: ignore[return-value]

    def _decide(self, unit: str | None, salts: list[str]) -> Decision:
        """`salts` is filled with those that were asked for, in order."""

        def ask(unit: str, salt: str) -> int:
            salts.append(salt)
            return bucket(unit, salt)

        profile, model_name, catalog, current_version, matched = self._asked
        return decide(profile, unit, model_name, catalog, current_version, matched=matched, bucket_of=ask)

    def _learn(self, unit: str) -> Outcome:
        salts: list[str] = []
        outcome = Outcome(self._decide(unit, salts))
        if self.nodes + len(salts) >= MOST_NODES:
            return outcome
        if not salts:
            self._root = outcome
        where: tuple[Fork, int] | None = None
        for salt in salts:
            fork = self._root if where is None else where[0].branches[where[1]]
            if not isinstance(fork, Fork):
                fork = Fork(salt, self._ends[salt])
                self._hang(where, fork)
            where = fork, bisect_right(fork.ends, sha256(f'["{unit}","'.encode("ascii") + fork.suffix).digest())
        self._hang(where, outcome)
        return outcome

    def _hang(self, where: tuple[Fork, int] | None, node: Node) -> None:
        if where is None:
            self._root = node
        else:
            where[0].branches[where[1]] = node
        self.nodes += 1


def _ends_by_salt(model: CatalogModel) -> dict[str, tuple[bytes, ...]]:
    """The inner boundaries of every range that is compared with a bucket, sorted, by the bucket's salt."""
    positions: dict[str, set[int]] = {}
    if model.holdback is not None:
        positions.setdefault(model.holdback.salt, set()).update(model.holdback.range)
    for experiment in model.experiments:
        positions.setdefault(experiment.layer.salt, set()).update(experiment.layer.range)
        for arm in experiment.arms:
            for span in arm.ranges:
                positions.setdefault(experiment.arm_salt, set()).update(span)
        positions.setdefault(experiment.arm_salt, set())
    # No bucket lies below 0 or from BUCKETS on: the last hash of all counts as the last bucket.
    return {
        salt: tuple(_EDGES[position] for position in sorted(found) if 0 < position < BUCKETS)
        for salt, found in positions.items()
    }
