"""Forms of a model's gates and profiles, and of whatever needs a reason."""

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from registry.conversion.recipes import RECIPES
from registry.models import ConversionProfile
from registry.models.applications import slug_validator


class ReasonForm(forms.Form):
    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), max_length=1000, help_text="Stands in the audit log."
    )


class GatesForm(forms.Form):
    max_accuracy_loss = forms.CharField(
        required=False,
        max_length=20,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "0.02"}),
        label="Accuracy lost, at most",
        help_text="A share of 0 to 1, against the source on the evaluation set.",
    )
    max_bytes = forms.IntegerField(
        required=False, min_value=1, widget=UnfoldAdminTextInputWidget(), label="Bytes, at most"
    )
    max_latency_us = forms.CharField(
        required=False,
        max_length=10_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "android-high 8000"}),
        label="Median latency, at most",
        help_text="A device class and microseconds on each line; compared with reported benchmarks.",
    )
    required_recipes = forms.MultipleChoiceField(
        required=False,
        choices=[(slug, slug) for slug in RECIPES],
        widget=forms.CheckboxSelectMultiple,
        label="Required recipes",
        help_text="A release without one of these is refused.",
    )

    @staticmethod
    def shown(gates: Mapping[str, Any]) -> dict[str, Any]:
        lines = [f"{name} {most_us}" for name, most_us in sorted((gates.get("max_latency_us") or {}).items())]
        return {**gates, "max_latency_us": "\n".join(lines)}

    def clean_max_latency_us(self) -> dict[str, int]:
        found = {}
        for line in self.cleaned_data["max_latency_us"].splitlines():
            name, _, most_us = line.strip().rpartition(" ")
            if line.strip() and not (name and most_us.isascii() and most_us.isdigit()):
                raise forms.ValidationError(f"expected a device class and microseconds, got {line.strip()!r:.80}")
            if line.strip():
                found[name.strip()] = int(most_us)
        return found

    def gates(self) -> dict[str, Any]:
        """What was entered, as the service takes it."""
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "", [], {})}


class ProfileForm(forms.Form):
    name = forms.CharField(max_length=63, validators=[slug_validator], widget=UnfoldAdminTextInputWidget())
    recipes = forms.MultipleChoiceField(
        choices=[(slug, slug) for slug in RECIPES], widget=forms.CheckboxSelectMultiple, label="Recipes"
    )
    is_default = forms.BooleanField(required=False, label="Default of pushes that name nothing")

    @staticmethod
    def shown(profile: ConversionProfile | None) -> dict[str, Any]:
        if profile is None:
            return {}
        return {"name": profile.name, "recipes": profile.recipes, "is_default": profile.is_default}
