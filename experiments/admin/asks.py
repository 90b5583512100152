"""What a verb asks for besides a reason. Asked in the address, so that its page shows what exactly would be done."""

from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.http import QueryDict
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from experiments.admin.effects import version
from experiments.bucketing import BUCKETS
from experiments.lifecycle import Kind
from experiments.models import Experiment
from experiments.words import percent
from registry.models import ModelVersion, RegisteredModel
from registry.services import releasable_variants

EVERY_CLASS, NO_WINNER = "", ""


def releasable(model: RegisteredModel) -> list[ModelVersion]:
    """Versions that an arm can have: converted, not yanked, with a variant that no gate blocks; newest first."""
    rows = model.versions.filter(yanked_at=None).prefetch_related("variants").order_by("-number")
    return [row for row in rows if not row.jobs.unfinished().exists() and releasable_variants(row)]


class PercentField(forms.DecimalField):
    """People write percent with up to two decimals; what comes out is basis points."""

    def __init__(self, **options: Any) -> None:
        widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})
        told = {"invalid": "expected percent, such as 12.5"}
        bounds = {"min_value": 0, "max_value": 100, "decimal_places": 2}
        super().__init__(**{**bounds, "widget": widget, "error_messages": told, **options})

    def clean(self, value: Any) -> int | None:
        found: Decimal | None = super().clean(str(value or "").replace("%", "").replace(",", ".").strip())
        return None if found is None else int(found * 100)


class Ask(forms.Form):
    """Always bound: to what stands in the address, else to what the page proposes."""

    names: ClassVar[dict[str, str]] = {}  # what the service calls a field -> its name here, where they differ

    def __init__(self, experiment: Experiment, query: QueryDict) -> None:
        self.experiment = experiment
        said = {name: query.get(name, default) for name, default in self.proposed().items()}
        super().__init__(said)
        self.offer()

    def proposed(self) -> dict[str, Any]:
        """Of every field what it is at first."""
        return dict.fromkeys(self.base_fields, "")

    def offer(self) -> None:
        """Set the choices."""

    def wanted(self) -> dict[str, Any]:
        """For the service, once it is valid."""
        named = {here: there for there, here in self.names.items()}
        return {named.get(name, name): value for name, value in self.cleaned_data.items() if value not in ("", None)}

    def choose(self, name: str, choices: list[tuple[Any, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]


def _choice(**options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(widget=UnfoldAdminSelectWidget, **options)


class RampAsk(Ask):
    names = {"to_bp": "to"}
    to = PercentField(label="Percent", help_text="0 to 100, two decimals at most. The plan goes on from there.")

    def proposed(self) -> dict[str, Any]:
        following = self.experiment.next_step
        return {"to": f"{(following.percent_bp if following else BUCKETS) / 100:g}"}

    @property
    def percent_now(self) -> str:
        return percent(self.cleaned_data["to"]) if self.is_valid() else ""

    def shortcuts(self) -> list[tuple[str, str]]:
        """The plan's steps: (query, words)."""
        steps = [step.percent_bp for step in self.experiment.steps.all()]
        return [(f"to={percent_bp / 100:g}", percent(percent_bp)) for percent_bp in dict.fromkeys([*steps, BUCKETS])]


class HaltAsk(Ask):
    device_class = _choice(required=False, label="For whom", help_text="The other classes go on when only one is held.")

    def offer(self) -> None:
        names = self.experiment.application.device_classes.values_list("name", flat=True)
        classes = [(name, f"only {name}") for name in names if name not in self.experiment.halted_classes]
        self.choose("device_class", [(EVERY_CLASS, "every device class"), *classes])


class SupersedeAsk(Ask):
    version = _choice(
        help_text="The same units get it, in the place of the version that the arm has.",
        error_messages={"required": "expected another version that can be released; there is none yet: upload the fix"},
    )
    arm = _choice(required=False)

    def proposed(self) -> dict[str, Any]:
        newest = next((number for number, _ in self._versions()), "")
        return {"version": newest, "arm": next((name for name, _ in self._arms()), "")}

    def offer(self) -> None:
        self.choose("version", self._versions())
        self.choose("arm", self._arms())

    def wanted(self) -> dict[str, Any]:
        said = super().wanted()
        return said | {"version": int(said["version"])}

    def _versions(self) -> list[tuple[str, str]]:
        served = {arm["version"] for arm in self.experiment.arms}
        rows = [row for row in releasable(self.experiment.model) if row.number not in served]
        return [(str(row.number), str(row)) for row in rows]

    def _arms(self) -> list[tuple[str, str]]:
        is_rollout = self.experiment.kind == Kind.ROLLOUT
        arms = [arm for arm in self.experiment.arms if not (is_rollout and arm["control"])]
        arms.sort(key=lambda arm: arm["control"])
        return [(arm["name"], f"{arm['name']}, now {version(arm['version'])}") for arm in arms]


class CompleteAsk(Ask):
    winner = _choice(required=False, help_text="Its version becomes the channel's current release.")

    def offer(self) -> None:
        arms = [arm for arm in self.experiment.arms if arm["version"] is not None]
        named = [(arm["name"], f"{arm['name']}, {version(arm['version'])}") for arm in arms]
        if self.experiment.kind == Kind.ROLLOUT:
            named = [pair for pair, arm in zip(named, arms, strict=True) if not arm["control"]]
            self.choose("winner", named)
        else:
            self.choose("winner", [(NO_WINNER, "none: the current release stays"), *named])

    def proposed(self) -> dict[str, Any]:
        treatments = [arm["name"] for arm in self.experiment.arms if not arm["control"]]
        return {"winner": treatments[0] if self.experiment.kind == Kind.ROLLOUT else NO_WINNER}


class StartAsk(Ask):
    starts_at = forms.DateTimeField(
        required=False,
        label="When",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-01 08:00"}),
        help_text="UTC; empty: at the time that its design says, or at once.",
    )
