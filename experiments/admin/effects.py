"""What a verb would do, in words: shown above every button that does it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.utils import timezone

from experiments import services
from experiments.lifecycle import Verb
from experiments.models import Experiment
from experiments.ramps import size
from experiments.services import Preview
from experiments.words import percent

NOTHING = "–"
UNNOTICED = {Verb.SUBMIT, Verb.REJECT, Verb.PAUSE, Verb.APPROVE_STEP, Verb.ARCHIVE}
LABELS = {
    "state": "State",
    "awaiting": "Waits for approval of",
    "approved_by": "Approved by",
    "halted_classes": "Halted classes",
    "starts_at": "Starts at",
    "step_position": "Step of the plan",
    "seed": "Draw",
    "arms": "Arms",
    "steps": "Plan",
    "hypothesis": "Hypothesis",
    "policy": "Policy",
    "layer_range": "Buckets of the layer",
    "overrides": "Overrides",
}


class Change(NamedTuple):
    label: str
    before: str
    after: str


@dataclass
class Effect:
    """`changes` of the state; the numbers are those of `services.Preview`."""

    verb: str
    preview: Preview
    changes: list[Change] = field(default_factory=list)

    @property
    def is_noticed(self) -> bool:
        """By devices."""
        return self.verb not in UNNOTICED or bool(self.preview.buckets_moved or self.preview.units_moved)


def effect_of(row: Experiment, verb: str, *, actor: str, **wanted: Any) -> Effect:
    """Do the verb, look, and take it back. Raises whatever the verb raises."""
    now = timezone.now()
    tried = Experiment.objects.get(pk=row.pk)  # becomes what is taken back

    def deed() -> Experiment:
        getattr(services, verb)(experiment=tried, actor=actor, now=now, **wanted)
        return tried

    _, preview = services.preview(deed, lambda _: {}, channel=row.channel, model=row.model, now=now, of=row)
    return Effect(verb, preview, list(told_changes(preview.changes)))


def told_changes(changes: Mapping[str, list[Any]]) -> Iterator[Change]:
    """Of `services.Preview.changes`, in the order in which people ask."""
    for name, label in LABELS.items():
        if name == "step_position" and "phase" in changes:
            yield from _phase(*changes["phase"])
        if name in changes and not (name == "arms" and "phase" in changes):
            before, after = (_told(name, value) for value in changes[name])
            if before != after:
                yield Change(label, before, after)


def version(number: int | None) -> str:
    return "the embedded model" if number is None else f"version {number}"


def _phase(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[Change]:
    old, new = before or {}, after or {}
    if old.get("percent_bp") != new.get("percent_bp"):
        yield Change("Percentage", *(percent(each["percent_bp"]) if each else NOTHING for each in (old, new)))
    if old.get("number") != new.get("number"):
        yield Change("Phase", *(str(each.get("number", NOTHING)) for each in (old, new)))
    arms = [each.get("arms", {}) for each in (old, new)]
    for name in dict.fromkeys([*arms[0], *arms[1]]):
        told = [_arm(each.get(name)) for each in arms]
        if told[0] != told[1]:
            yield Change(f"Arm {name}", *told)


def _arm(arm: Mapping[str, Any] | None) -> str:
    return f"{version(arm['version'])}, {size(arm['ranges'])} of 10000 buckets" if arm else NOTHING


def _told(name: str, value: Any) -> str:
    if value in (None, "", [], {}):
        return NOTHING
    words: dict[str, Callable[[Any], str]] = {
        "state": lambda state: str(state).replace("_", " "),
        "step_position": lambda position: str(position + 1),
        "arms": lambda arms: ", ".join(f"{arm['name']} {version(arm['version'])}" for arm in arms),
        "steps": lambda steps: ", ".join(percent(step["percent_bp"]) for step in steps),
        "layer_range": lambda span: f"{span[0]} to {span[1]}",
        "overrides": lambda overrides: f"{len(overrides)} unit{'s' if len(overrides) > 1 else ''}",
    }
    told = words.get(name, lambda each: ", ".join(each) if isinstance(each, list) else str(each))
    return told(value)
