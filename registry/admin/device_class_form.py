"""The form of a device class: a field for each condition of its selector, so that nobody writes JSON."""

from dataclasses import fields
from typing import Any

from django import forms
from django.core.validators import RegexValidator
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry import services
from registry.admin.shared import ServiceForm, refusals_in
from registry.conversion.recipes import RECIPES, RUNTIME_OF_FAMILY
from registry.device_classes import Selector
from registry.models import DeviceClass, Role

VERSION = RegexValidator(r"^[0-9]{1,9}(\.[0-9]{1,9}){0,7}$", "expected a dotted version such as 14.0.3")
CONDITIONS = tuple(field.name for field in fields(Selector))
ALL_NAMES = format_html(
    "One on each line, best first. <details><summary>All names</summary>{}</details>", ", ".join(RECIPES)
)
FIELDSETS = [
    (None, {"fields": [("application", "name", "position")]}),
    (
        "Conditions: all of them must hold; a class without any is the fallback",
        {
            "fields": [
                ("os", "os_version_min", "os_version_max"),
                ("runtime", "runtime_version_min", "runtime_version_max"),
                ("app_version_min", "app_version_max"),
                ("ram_mb_min", "ram_mb_max"),
                ("soc", "accelerators_all"),
                ("device_include", "device_exclude"),
            ]
        },
    ),
    ("What its devices get", {"fields": [("variants", "delegate_order")]}),
]


class WordsField(forms.CharField):
    """A list of words, separated by commas."""

    def __init__(self, **options: Any) -> None:
        options = {"required": False, "max_length": 500, "widget": UnfoldAdminTextInputWidget} | options
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, (list, tuple)) else value

    def to_python(self, value: Any) -> Any:
        return list(dict.fromkeys(filter(None, (word.strip() for word in str(value or "").split(",")))))

    def run_validators(self, value: Any) -> None:
        super().run_validators(", ".join(value))


class LinesField(WordsField):
    """A list with one entry on each line: names of chips and devices have commas and blanks."""

    def __init__(self, *, rows: int = 2, **options: Any) -> None:
        super().__init__(**{"max_length": 5000, "widget": UnfoldAdminTextareaWidget(attrs={"rows": rows}), **options})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, (list, tuple)) else value

    def to_python(self, value: Any) -> Any:
        return list(dict.fromkeys(filter(None, (line.strip() for line in str(value or "").splitlines()))))


def version_field(label: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": "any"})
    return forms.CharField(required=False, max_length=64, validators=[VERSION], widget=widget, label=label)


def memory_field(label: str) -> forms.IntegerField:
    widget = UnfoldAdminIntegerFieldWidget(attrs={"placeholder": "any"})
    return forms.IntegerField(required=False, min_value=0, widget=widget, label=label, help_text="MiB, inclusive")


class DeviceClassForm(ServiceForm):
    os = WordsField(label="OS", help_text="android, ios; empty: any")
    os_version_min = version_field("OS, at least")
    os_version_max = version_field("OS, at most")
    app_version_min = version_field("App, at least")
    app_version_max = version_field("App, at most")
    runtime = WordsField(help_text=f"{', '.join(RUNTIME_OF_FAMILY.values())}; empty: any")
    runtime_version_min = version_field("Runtime, at least")
    runtime_version_max = version_field("Runtime, at most")
    ram_mb_min = memory_field("RAM, at least")
    ram_mb_max = memory_field("RAM, at most")
    soc = LinesField(label="SoC", help_text="One of these, a chip on each line, by any of its names.")
    accelerators_all = WordsField(label="Accelerators", help_text="Every one of these: gpu, npu")
    device_include = LinesField(label="Only these devices", help_text="maker/model, one on each line")
    device_exclude = LinesField(label="Not these devices", help_text="maker/model, one on each line")
    variants = LinesField(rows=8, required=True, help_text=ALL_NAMES)
    delegate_order = LinesField(
        rows=8, label="Delegates", help_text="What the runtime tries first, one on each line: npu, gpu, xnnpack."
    )

    class Meta:
        model = DeviceClass
        fields = ["application", "name", "position", "variants", "delegate_order"]
        help_texts = {"position": "Classes are tried by rising position; the first whose conditions hold decides."}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name, value in (self.instance.selector or {}).items():
            self.initial.setdefault(name, value)

    def clean(self) -> dict[str, Any]:
        wanted = super().clean() or {}
        if self.errors:
            return wanted
        rule = dict(wanted)
        selector = {name: value for name in CONDITIONS if (value := rule.pop(name)) not in (None, "", [])}
        with refusals_in(self):
            services.require_role(self.request.user, wanted["application"], Role.ADMINISTRATOR)
            self.instance = services.save_device_class(
                **rule,
                selector=selector,
                device_class=DeviceClass.objects.get(pk=self.instance.pk) if self.instance.pk else None,
                actor=self.request.user.get_username(),
                now=timezone.now(),
            )
        return wanted
