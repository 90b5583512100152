"""Device classes: changing them, and trying which one a device belongs to and why not to an earlier one."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from registry import services
from registry.admin.device_class_form import FIELDSETS, DeviceClassForm
from registry.admin.shared import ServiceFormAdmin, choose_application, refusals_told
from registry.device_classes import DeviceProfile, match, with_all_soc_names
from registry.errors import NotAllowed
from registry.models import Application, DeviceClass, Role

EXAMPLES = {
    "Android, 8 GB": "os=android&os_version=15&runtime=litert&ram_mb=8192&accelerators=gpu",
    "Android, 3 GB": "os=android&os_version=12&runtime=litert&ram_mb=3072",
    "iPhone, Core ML": "os=ios&os_version=18.1&runtime=coreml&runtime_version=18.1&device=iphone17,1",
    "iPhone, LiteRT": "os=ios&os_version=17.5&runtime=litert&device=iphone14,2",
}


class DeviceProfileForm(forms.Form):
    """The fields of a poll that describe a device."""

    os = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=32, label="OS")
    os_version = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=64, required=False, label="OS version")
    app_version = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=64, required=False)
    runtime = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget,
        choices=[("", "unknown"), *((name, name) for name in ("litert", "coreml", "executorch", "onnxruntime"))],
        required=False,
    )
    runtime_version = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=64, required=False)
    device = forms.CharField(
        widget=UnfoldAdminTextInputWidget, max_length=128, required=False, help_text="maker/model, as the device says"
    )
    soc = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=128, required=False, label="SoC")
    ram_mb = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget, min_value=1, required=False, label="RAM", help_text="MiB"
    )
    accelerators = forms.CharField(
        widget=UnfoldAdminTextInputWidget, max_length=128, required=False, help_text="such as gpu, npu"
    )

    def profile(self) -> DeviceProfile:
        told = dict(self.cleaned_data)
        words = (word.strip() for word in told.pop("accelerators").split(","))
        return DeviceProfile(**told, accelerators=frozenset(filter(None, words)))


@admin.register(DeviceClass)
class DeviceClassAdmin(ServiceFormAdmin):
    list_display = ["position", "name", "application", "conditions", "preference"]
    list_display_links = ["name"]
    list_filter = ["application"]
    ordering = ["application", "position"]
    form = DeviceClassForm
    fieldsets = FIELDSETS
    compressed_fields = False  # a label above its field: three of them share a line
    list_before_template = "registry/device_class_before.html"
    add_role = change_role = delete_role = Role.ADMINISTRATOR
    empty_words = ("No device class", "An application begins with four. Without any, no device gets a model.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceClass]:
        return super().get_queryset(request).select_related("application")

    @admin.display
    def conditions(self, row: DeviceClass) -> str:
        told = [
            f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in row.selector.items()
        ]
        return "; ".join(told) or "none: everything that comes this far"

    @admin.display(description="variants")
    def preference(self, row: DeviceClass) -> str:
        return ", ".join(row.variants)

    def get_urls(self) -> list[URLPattern]:
        return [
            path("match/", self.admin_site.admin_view(self.match_view), name="registry_deviceclass_match"),
            *super().get_urls(),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: DeviceClass | None = None) -> list[str]:  # noqa: ARG002
        return []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if request.method != "POST":
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
            return answer
        row: DeviceClass = self.find(request, object_id, Role.ADMINISTRATOR)
        with refusals_told(request):
            services.delete_device_class(device_class=row, actor=request.user.get_username(), now=timezone.now())
            messages.success(request, f"{row.name} is deleted; its devices fall through to the classes after it.")
        return redirect("admin:registry_deviceclass_changelist")

    def match_view(self, request: HttpRequest) -> HttpResponse:
        """A device in words → its class, and what each earlier one lacked."""
        if not self.has_view_permission(request):
            raise NotAllowed("expected a role in an application, got none")
        allowed, chosen = choose_application(request, Role.VIEWER)
        asked = "os" in request.GET
        form = DeviceProfileForm(request.GET if asked else None)
        outcome = _outcome(chosen, form.profile()) if chosen and asked and form.is_valid() else None
        here = reverse("admin:registry_deviceclass_match")
        examples = [(name, f"{here}?application={chosen}&{query}") for name, query in EXAMPLES.items()]
        return self.page(
            request,
            "registry/match.html",
            "Who would match",
            form=form,
            allowed=allowed,
            chosen=chosen,
            outcome=outcome,
            examples=examples if chosen else [],
        )


def _outcome(application: Application, profile: DeviceProfile) -> list[dict[str, Any]]:
    """One line a class, in the order tried: `why` it was not, or that it is the one, or that nobody asked it."""
    rows = list(application.device_classes.all())
    matched = match(profile, [with_all_soc_names(row.as_rule()) for row in rows])
    why_not = dict(matched.trace)
    found = matched.device_class.name if matched.device_class else None
    return [{"row": row, "why": why_not.get(row.name), "is_match": row.name == found} for row in rows]
