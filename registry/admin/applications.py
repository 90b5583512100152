"""Applications, who may do what in them, and their channels."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import TabularInline

from registry import services
from registry.admin import access
from registry.admin.shared import MemberAdmin, ServiceForm, ServiceFormAdmin, refusals_in
from registry.models import Application, Channel, Membership, Role


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    extra = 0
    fields = ["user", "role"]

    def has_view_permission(self, request: HttpRequest, obj: Application | None = None) -> bool:
        return access.holds(request, Role.ADMINISTRATOR, obj.pk if obj else None)

    has_add_permission = has_change_permission = has_delete_permission = has_view_permission


class ApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        """A new application is made here, where the service's refusal can be shown beside its field."""
        wanted = super().clean() or {}
        if self.errors or self.instance.pk:
            return wanted
        with refusals_in(self):
            self.instance = services.create_application(
                slug=wanted["slug"],
                name=wanted["name"],
                actor=self.request.user.get_username(),
                now=timezone.now(),
            )
        return wanted

    def validate_unique(self) -> None:
        """The service has looked."""


@admin.register(Application)
class ApplicationAdmin(MemberAdmin):
    list_display = ["slug", "name", "your_role", "created_at"]
    fields = ["slug", "name"]
    form = ApplicationForm
    application_path = ""
    change_role = Role.ADMINISTRATOR
    empty_words = ("No application", "An application is one app whose devices ask for models.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Application]:
        self.request = request
        return access.applications(request)

    @admin.display
    def your_role(self, application: Application) -> str:
        if access.is_superuser(self.request):
            return "superuser"
        return Role(access.held_roles(self.request)[application.pk]).label

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return access.is_superuser(request)

    def get_inlines(self, request: HttpRequest, obj: Application | None) -> list[Any]:  # noqa: ARG002
        return [MembershipInline] if obj else []

    def get_readonly_fields(self, request: HttpRequest, obj: Application | None = None) -> list[str]:  # noqa: ARG002
        return ["slug"] if obj else []

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:  # noqa: FBT001, FBT002
        form = super().get_form(request, obj, change, **options)
        form.request = request
        return form

    def save_model(self, request: HttpRequest, obj: Application, form: Any, change: bool) -> None:  # noqa: FBT001
        if change and "name" in form.changed_data:
            services.rename_application(
                application=obj, name=obj.name, actor=request.user.get_username(), now=timezone.now()
            )

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: ARG002, FBT001
        """Memberships are granted and revoked, so that the audit log tells of them."""
        formset.save(commit=False)
        told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
        for membership in formset.deleted_objects:
            services.revoke(membership=membership, **told)
        for membership, fields in formset.changed_objects:
            if "user" in fields:  # somebody else takes the line: the one who had it loses the role
                services.revoke(membership=Membership.objects.get(pk=membership.pk), **told)
        changed = [membership for membership, _ in formset.changed_objects]
        for membership in [*formset.new_objects, *changed]:
            services.grant(application=formset.instance, user=membership.user, role=Role(membership.role), **told)


class ChannelForm(ServiceForm):
    def clean(self) -> dict[str, Any]:
        wanted = super().clean() or {}
        if self.errors:
            return wanted
        with refusals_in(self):
            services.require_role(self.request.user, wanted["application"], Role.ADMINISTRATOR)
            self.instance = services.create_channel(
                application=wanted["application"],
                slug=wanted["slug"],
                actor=self.request.user.get_username(),
                now=timezone.now(),
            )
        return wanted


@admin.register(Channel)
class ChannelAdmin(ServiceFormAdmin):
    list_display = ["slug", "application", "created_at"]
    list_filter = ["application"]
    fields = ["application", "slug"]
    form = ChannelForm
    add_role = Role.ADMINISTRATOR
