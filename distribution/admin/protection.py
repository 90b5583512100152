"""Which models are published encrypted, and which installations asked for their keys."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from distribution.models import ContentKey, KeyCall, ModelProtection
from distribution.protection import services
from distribution.protection.services import attestation_of
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import Stale
from registry.models import RegisteredModel, Role
from registry.services import require_role
from registry.templatetags.aerogram import state


class ProtectionForm(forms.Form):
    is_on = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Publish encrypted",
        help_text="Versions that are first released from now on. What was released plain stays plain.",
    )
    reason = forms.CharField(required=False, max_length=1000, widget=UnfoldAdminTextInputWidget)


@admin.register(ModelProtection)
class ModelProtectionAdmin(MemberAdmin):
    """A model has its row from the first look on."""

    list_display = ["model", "application", "published", "asked_for"]
    list_filter = ["model__application"]
    application_path = "model__application"
    empty_words = ("No model", "Whether versions are published encrypted is said for each model.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelProtection]:
        return super().get_queryset(request).select_related("model__application")

    @admin.display(ordering="model__application__slug")
    def application(self, row: ModelProtection) -> str:
        return str(row.model.application)

    @admin.display(description="versions are published", ordering="is_on")
    def published(self, row: ModelProtection) -> str:
        return "encrypted" if row.is_on else "plain"

    @admin.display(description="an installation must prove")
    def asked_for(self, row: ModelProtection) -> str:
        found = attestation_of(row.model.application)
        if found.mode == found.Mode.NONE:
            return "nothing"
        kinds = (("App Attest", found.apple_app_id), ("Play Integrity", found.play_package_name))
        return " or ".join(name for name, is_set in kinds if is_set) or "not set up: nobody is given a key"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        mine = access.applications(request)
        for model in RegisteredModel.objects.filter(application__in=mine, protection__isnull=True):
            services.protection_of(model)
        return super().changelist_view(request, extra_context)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: ModelProtection = self.find(request, object_id)
        form = ProtectionForm(request.POST or None, initial={"is_on": row.is_on})
        if request.method == "POST":
            require_role(request.user, row.model.application, Role.ADMINISTRATOR)
            if form.is_valid():
                with refusals_in(form):
                    self._change(request, row, form.cleaned_data)
                    return redirect("admin:distribution_modelprotection_changelist")
        may_change = access.holds(request, Role.ADMINISTRATOR, row.model.application_id)
        for field in form.fields.values():
            field.disabled = not may_change
        keys = ContentKey.objects.filter(model=row.model).prefetch_related("variants__variant__version__model")
        title = f"Protection of {row.model}"
        return self.page(
            request, "distribution/protection.html", title, form=form, row=row, keys=keys, may_change=may_change
        )

    def _change(self, request: HttpRequest, row: ModelProtection, wanted: dict[str, Any]) -> None:
        """Raises `Stale` when the row is not the one that the page showed."""
        with transaction.atomic():
            fresh = ModelProtection.objects.select_for_update().get(pk=row.pk)
            if request.POST.get("row_version") != str(fresh.row_version):
                raise Stale("expected the protection as it is now, it was changed since the page was opened")
            told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
            services.set_protection(protection=fresh, **wanted, **told)
        how = "encrypted" if wanted["is_on"] else "plain"
        messages.success(request, f"Versions of {row.model} that are first released from now on are {how}.")


@admin.register(KeyCall)
class KeyCallAdmin(MemberAdmin):
    """Looked at, never written here."""

    list_display = ["at", "model", "content_key", "channel", "unit", "attestation", "how", "reason"]
    list_filter = ["application", "outcome", "attestation"]
    empty_words = ("Nobody asked yet", "Installations ask for the keys of protected models; here is what became of it.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[KeyCall]:
        return super().get_queryset(request).select_related("content_key__model", "application")

    @admin.display(ordering="content_key__model__slug")
    def model(self, row: KeyCall) -> str:
        return str(row.content_key.model)

    @admin.display(description="unit's SHA-256")
    def unit(self, row: KeyCall) -> str:
        return f"{row.unit_key[:12]}…"

    @admin.display(description="outcome", ordering="outcome")
    def how(self, row: KeyCall) -> SafeString:
        return state(row.outcome)
