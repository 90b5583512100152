"""The admin's pages of what exists. Rows are made by services, so most pages only show."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from registry.admin.applications import ApplicationAdmin, ChannelAdmin
from registry.admin.audit import AuditEntryAdmin
from registry.admin.device_classes import DeviceClassAdmin
from registry.admin.tokens import ApiTokenAdmin
from registry.admin.versions import ModelVersionAdmin, RegisteredModelAdmin
from registry.admin.webhooks import WebhookAdmin, WebhookDeliveryAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:  # noqa: FBT001  Django's
        """Who is added here may sign in here; what they may do, their roles in applications say."""
        obj.is_staff = obj.is_staff or not change
        super().save_model(request, obj, form, change)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


__all__ = [
    "ApiTokenAdmin",
    "ApplicationAdmin",
    "AuditEntryAdmin",
    "ChannelAdmin",
    "DeviceClassAdmin",
    "GroupAdmin",
    "ModelVersionAdmin",
    "RegisteredModelAdmin",
    "UserAdmin",
    "WebhookAdmin",
    "WebhookDeliveryAdmin",
]
