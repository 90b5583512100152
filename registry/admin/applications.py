from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline

from registry import services
from registry.admin.shared import ShownAdmin
from registry.conversion.recipes import RECIPES
from registry.device_classes import Selector, SelectorError
from registry.models import Application, Channel, DeviceClass, Membership, PublishRequest


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    extra = 0


@admin.register(Application)
class ApplicationAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["slug", "name", "created_at"]
    fields = ["slug", "name"]
    inlines = [MembershipInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Application | None = None) -> list[str]:  # noqa: ARG002
        return ["slug"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False  # devices in the field ask for it by name

    def save_model(self, request: HttpRequest, obj: Application, form: Any, change: bool) -> None:  # noqa: FBT001
        if change:
            super().save_model(request, obj, form, change)
            return
        made = services.create_application(
            slug=obj.slug, name=obj.name, actor=request.user.get_username(), now=timezone.now()
        )
        obj.pk, obj.created_at = made.pk, made.created_at


@admin.register(Channel)
class ChannelAdmin(ShownAdmin):
    list_display = ["slug", "application", "created_at"]
    list_filter = ["application"]


class DeviceClassForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = DeviceClass
        fields = ["application", "name", "position", "selector", "variants", "delegate_order"]

    def clean_selector(self) -> Any:
        selector = self.cleaned_data["selector"] or {}
        try:
            Selector.from_json(selector)
        except SelectorError as error:
            raise ValidationError(str(error)) from error
        return selector

    def clean_variants(self) -> Any:
        variants = self.cleaned_data["variants"]
        unknown = [name for name in variants if name not in RECIPES] if isinstance(variants, list) else variants
        if unknown or not variants:
            raise ValidationError(f"expected a list of names among {', '.join(RECIPES)}; got {variants}")
        return variants


@admin.register(DeviceClass)
class DeviceClassAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "application", "position", "variants"]
    list_filter = ["application"]
    form = DeviceClassForm

    def save_model(self, request: HttpRequest, obj: DeviceClass, form: Any, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        PublishRequest.objects.create(
            application=obj.application, reason=f"device class {obj.name}", requested_at=timezone.now()
        )
