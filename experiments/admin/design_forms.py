"""The design of an experiment as a form: its arms and its plan in rows, of which the empty ones do not count."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import QueryDict
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from experiments import services
from experiments.admin.asks import PercentField, releasable
from experiments.admin.choosing import Pair
from experiments.api.serializers import LONGEST_HOLD, MOST_MIN_UNITS
from experiments.bucketing import BUCKETS
from experiments.delivery import delivery
from experiments.lifecycle import Kind
from experiments.models import Experiment, Layer
from experiments.models.layers import DEFAULT_LAYER
from experiments.ramps import MOST_ARMS
from experiments.services.designing import AT_ONCE, CONTROL, DEFAULT_PLAN, MOST_STEPS, TREATMENT
from experiments.services.recording import told_step
from registry.models.applications import slug_validator

HOUR = 3600
EMBEDDED = "embedded"
MORE_ROWS = 6
ARM_ROWS = 3


def _number(**options: Any) -> dict[str, Any]:
    return {"required": False, "widget": UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}), **options}


class Row(forms.Form):
    """A row without its `key` field is empty, and does not count."""

    key = ""
    use_required_attribute = False

    def __init__(self, *arguments: Any, number: int, **options: Any) -> None:
        """`number`: of the row; a field's label stands above its column, where who cannot see it would miss it."""
        super().__init__(*arguments, **options)
        for each in self:
            each.field.widget.attrs["aria-label"] = f"{each.label}, row {number}"

    @property
    def is_used(self) -> bool:
        return self.cleaned_data.get(self.key) not in (None, "")


class StepRow(Row):
    key = "percent"
    percent = PercentField(required=False)
    hours = forms.DecimalField(**_number(min_value=0, max_value=LONGEST_HOLD // HOUR, decimal_places=2))
    min_units = forms.IntegerField(**_number(min_value=0, max_value=MOST_MIN_UNITS), label="Units")
    needs_approval = forms.BooleanField(required=False, label="Approval")
    monitored = forms.BooleanField(required=False, initial=True)

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if (
            said.get("percent") is None
            and "percent" not in self.errors
            and (said.get("hours") or said.get("min_units"))
        ):
            self.add_error("percent", "expected a percentage in a row that says more")
        return said

    def wanted(self) -> dict[str, Any]:
        said = self.cleaned_data
        return {
            "percent_bp": said["percent"],
            "hold_seconds": int((said["hours"] or 0) * HOUR),
            "min_units": said["min_units"] or 0,
            "needs_approval": said["needs_approval"],
            "monitored": said["monitored"],
        }

    @staticmethod
    def shown(step: dict[str, Any]) -> dict[str, Any]:
        return {
            **step,
            "percent": f"{step['percent_bp'] / 100:g}",
            "hours": f"{step.get('hold_seconds', 0) / HOUR:g}",
        }


class ArmRow(Row):
    key = "name"
    name = forms.CharField(
        required=False, max_length=63, validators=[slug_validator], widget=UnfoldAdminTextInputWidget
    )
    version = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    control = forms.BooleanField(required=False)
    share = PercentField(required=False)

    def wanted(self) -> dict[str, Any]:
        said = self.cleaned_data
        number = None if said["version"] == EMBEDDED else int(said["version"] or 0)
        return {
            "name": said["name"],
            "version": number,
            "control": said["control"],
            **({"share_bp": said["share"]} if said["share"] is not None else {}),
        }

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("name") and not self.cleaned_data.get("version"):
            self.add_error("version", "expected a version, or the embedded model")
        return self.cleaned_data

    @staticmethod
    def shown(arm: dict[str, Any]) -> dict[str, Any]:
        number = arm["version"]
        shown = {**arm, "version": EMBEDDED if number is None else str(number)}
        return {**shown, "share": f"{arm['share_bp'] / 100:g}"} if "share_bp" in arm else shown


class PolicyField(forms.JSONField):
    def prepare_value(self, value: Any) -> Any:
        """Nothing is an empty field, not `null`."""
        return "" if value in (None, {}) else super().prepare_value(value)


class DesignForm(forms.Form):
    """`slug` and `layer` stand in a new design only: they stay what they are. `version` is a rollout's."""

    slug = forms.CharField(
        max_length=63,
        validators=[slug_validator],
        label="Name",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "digits-v4"}),
        help_text="Stands in the catalog that devices read.",
    )
    version = forms.TypedChoiceField(
        coerce=int,
        label="Version to roll out",
        widget=UnfoldAdminSelectWidget,
        help_text="Its control is the current release.",
    )
    hypothesis = forms.CharField(
        required=False, max_length=10_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="What is expected to become better, and by how much.",
    )  # fmt: skip
    starts_at = forms.DateTimeField(
        required=False,
        label="Starts at",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-01 08:00"}),
        help_text="UTC; empty: when somebody starts it.",
    )
    policy = PolicyField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false", "class": "ag-mono"}),
        label="Policy, where it is other than the default",
        help_text='JSON, such as {"slo_ms": 50, "guardrails": {"crash": {"margin": 1.5}}}.',
    )
    layer = forms.CharField(
        max_length=63, initial=DEFAULT_LAYER, validators=[slug_validator], widget=UnfoldAdminTextInputWidget,
        help_text="Live experiments of a layer share no device.",
    )  # fmt: skip
    layer_first = forms.IntegerField(
        min_value=0, max_value=BUCKETS, initial=0, label="Its buckets from", widget=UnfoldAdminTextInputWidget
    )
    layer_end = forms.IntegerField(
        min_value=0, max_value=BUCKETS, initial=BUCKETS, label="up to, without", widget=UnfoldAdminTextInputWidget
    )
    reason = forms.CharField(
        required=False,
        max_length=1000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Stands in the audit log.",
    )
    row_version = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=1)
    entry = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=0)

    def clean_policy(self) -> dict[str, Any]:
        said = self.cleaned_data["policy"]
        if said is not None and not isinstance(said, dict):
            raise forms.ValidationError(f"expected a JSON object, got {said!r:.80}")
        return said or {}


class Design:
    """The form and its rows as one: what was sent, or else what is designed, or else what is proposed."""

    def __init__(
        self,
        kind: str,
        pair: Pair,
        of: Experiment | None = None,
        data: QueryDict | None = None,
        version: str = "",
    ) -> None:
        self.kind, self.pair, self.of = kind, pair, of
        self.is_rollout = kind == Kind.ROLLOUT
        self.form = DesignForm(data, initial=_shown(of, pair, version))
        for name in self._not_asked():
            del self.form.fields[name]
        self.steps = self._rows(StepRow, "step", _steps(of, kind), data, MOST_STEPS, MORE_ROWS)
        self.arms = [] if self.is_rollout else self._rows(ArmRow, "arm", _arms(of, pair), data, MOST_ARMS, ARM_ROWS)
        self._offer_versions()
        self.steps_refused, self.arms_refused = "", ""

    def is_valid(self) -> bool:
        return not any([form.errors for form in (self.form, *self.steps, *self.arms)])  # noqa: C419 - each tells its own

    def wanted(self) -> dict[str, Any]:
        """For the service, once it is valid."""
        said = self.form.cleaned_data
        taken = ("slug", "layer", "hypothesis", "starts_at", "policy", "reason")
        wanted: dict[str, Any] = {name: said[name] for name in taken if name in said}
        wanted["layer_range"] = (said["layer_first"], said["layer_end"])
        wanted["steps"] = [row.wanted() for row in self.steps if row.is_used]
        if self.is_rollout:
            wanted["version"] = said["version"]
        else:
            wanted["arms"] = [row.wanted() for row in self.arms if row.is_used]
        return wanted

    def refuse(self, told: str, field: str | None) -> None:
        """What the service refused, beside what it is about."""
        if field == "steps":
            self.steps_refused = told
        elif field == "arms" or (field == "version" and not self.is_rollout):
            self.arms_refused = told
        else:
            named = {"layer_range": "layer_first"}.get(field or "", field)
            self.form.add_error(named if named in self.form.fields else None, told)

    def fields(self, *names: str) -> list[forms.BoundField]:
        return [self.form[name] for name in names if name in self.form.fields]

    @property
    def main_fields(self) -> list[forms.BoundField]:
        return self.fields("slug", "version", "hypothesis", "starts_at")

    @property
    def other_fields(self) -> list[forms.BoundField]:
        return self.fields("policy", "layer", "layer_first", "layer_end")

    @property
    def last_fields(self) -> list[forms.BoundField]:
        return self.fields("reason")

    @property
    def free(self) -> list[list[int]]:
        """Buckets of the layer that no live experiment holds; of the default layer before one is designed."""
        layer = self.of.layer if self.of else _layer(self.pair)
        return services.layer_map(layer)["free"] if layer else [[0, BUCKETS]]

    def _not_asked(self) -> list[str]:
        unasked = [] if self.of is None else ["slug", "layer"]
        return unasked if self.is_rollout else [*unasked, "version"]

    def _offer_versions(self) -> None:
        named = {arm["version"] for arm in self.of.arms} - {None} if self.of else set()
        rows = releasable(self.pair.model)
        numbers = sorted({row.number for row in rows} | named, reverse=True)
        choices = [(str(number), f"{self.pair.model}:{number}") for number in numbers]
        if self.is_rollout:
            self.form.fields["version"].choices = choices  # type: ignore[attr-defined]
        for row in self.arms:
            row.fields["version"].choices = [("", "choose…"), *choices, (EMBEDDED, "the embedded model")]

    @staticmethod
    def _rows(
        make: type[Row], name: str, shown: Sequence[dict[str, Any]], data: QueryDict | None, most: int, more: int
    ) -> list[Any]:
        """As many as were sent and, when more are asked for, some more."""
        sent = str(data.get(f"{name}s", "")) if data is not None else ""
        count = int(sent) if sent.isascii() and sent.isdigit() and len(sent) <= 3 else max(more, len(shown))  # noqa: PLR2004
        count += more if data is not None and data.get("do") == f"more-{name}s" else 0
        told = [*shown, *[{}] * most][: min(count, most)]
        return [
            make(data, prefix=f"{name}{index}", initial=each, auto_id=f"id_{name}{index}_%s", number=index + 1)
            for index, each in enumerate(told)
        ]


def _shown(of: Experiment | None, pair: Pair, version: str) -> dict[str, Any]:
    if of is None:
        return {"version": version or next((row.number for row in releasable(pair.model)), None)}
    names = ("hypothesis", "layer_first", "layer_end")
    shown = {name: getattr(of, name) for name in names} | {"policy": of.policy or None}
    starts_at = of.starts_at.strftime("%Y-%m-%d %H:%M") if of.starts_at else ""
    treatment = next((arm["version"] for arm in of.arms if not arm["control"]), None)
    return {**shown, "starts_at": starts_at, "version": treatment}


def _steps(of: Experiment | None, kind: str) -> list[dict[str, Any]]:
    if of is not None:
        return [StepRow.shown(told_step(step)) for step in of.steps.all()]
    return [StepRow.shown(dict(step)) for step in (DEFAULT_PLAN if kind == Kind.ROLLOUT else AT_ONCE)]


def _arms(of: Experiment | None, pair: Pair) -> list[dict[str, Any]]:
    if of is not None:
        return [ArmRow.shown(arm) for arm in of.arms]
    current = delivery().current_version(pair.channel, pair.model)
    other = next(
        (row.number for row in releasable(pair.model) if current is None or row.number != current.number), None
    )
    return [
        {"name": CONTROL, "control": True, "version": str(current.number) if current else EMBEDDED},
        {"name": TREATMENT, "version": other},
    ]


def _layer(pair: Pair) -> Layer | None:
    return Layer.objects.filter(channel=pair.channel, model=pair.model, slug=DEFAULT_LAYER).first()
