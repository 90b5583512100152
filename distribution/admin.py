"""The admin's pages of what devices get: release, roll back, stop, through the same services as REST."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin

from distribution import services
from distribution.models import KillSwitch, Release, Revision, SignedDocument
from registry.admin.shared import ShownAdmin
from registry.errors import DomainError
from registry.models import Role
from registry.services import require_role


class ReleaseForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Release
        fields = ["channel", "model_version", "reason"]

    def clean(self) -> dict[str, Any]:
        wanted = super().clean() or {}
        channel, version = wanted.get("channel"), wanted.get("model_version")
        if channel and version and channel.application_id != version.model.application_id:
            raise forms.ValidationError(f"expected a version of {channel.application}, got {version}")
        return wanted


@admin.register(Release)
class ReleaseAdmin(ModelAdmin):  # type: ignore[misc]
    """Adding a row here publishes it; rows are never edited."""

    list_display = ["model_version", "channel", "state", "release_counter", "is_rollback", "released_by", "released_at"]
    list_filter = ["channel", "state"]
    form = ReleaseForm
    actions = ["roll_back"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def save_model(self, request: HttpRequest, obj: Release, form: Any, change: bool) -> None:  # noqa: ARG002, FBT001
        """A refusal is shown by `response_add`; nothing is written then."""
        try:
            require_role(request.user, obj.channel.application, Role.RELEASER)
            made = services.publish(
                channel=obj.channel,
                version=obj.model_version,
                actor=request.user.get_username(),
                now=timezone.now(),
                reason=obj.reason,
            )
        except DomainError as error:
            request.META["aerogram.refusal"] = str(error)
            return
        obj.pk = made.pk

    def log_addition(self, request: HttpRequest, obj: Release, message: Any) -> Any:
        return None if obj.pk is None else super().log_addition(request, obj, message)

    def response_add(self, request: HttpRequest, obj: Release, post_url_continue: str | None = None) -> Any:
        refusal = request.META.get("aerogram.refusal")
        if refusal:
            messages.error(request, refusal)
            return self.response_post_save_add(request, obj)
        return super().response_add(request, obj, post_url_continue)

    @admin.action(description="Roll back the model of the selected release to the version before it")
    def roll_back(self, request: HttpRequest, queryset: QuerySet[Release]) -> None:
        for release in queryset.select_related("channel__application", "model_version__model"):
            try:
                require_role(request.user, release.channel.application, Role.RELEASER)
                made = services.roll_back(
                    channel=release.channel,
                    model=release.model_version.model,
                    actor=request.user.get_username(),
                    now=timezone.now(),
                    reason="rolled back in the admin",
                )
            except DomainError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"Going back to {made}")


@admin.register(KillSwitch)
class KillSwitchAdmin(ShownAdmin):
    list_display = ["model", "channel", "reason", "engaged_by", "engaged_at", "lifted_at"]


@admin.register(Revision)
class RevisionAdmin(ShownAdmin):
    list_display = ["number", "application", "reason", "prepared_at", "published_at"]
    list_filter = ["application"]


@admin.register(SignedDocument)
class SignedDocumentAdmin(ShownAdmin):
    list_display = ["path", "application", "role", "version", "expires_at"]
    list_filter = ["application", "role"]
