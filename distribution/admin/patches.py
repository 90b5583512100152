"""What apps ship with, and the patches that lead from there and from earlier versions to what is released."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from distribution import patches
from distribution.models import EmbeddedModel, Patch, Release
from registry import services
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import Invalid, NotAllowed
from registry.models import Artifact, ModelVersion, RegisteredModel, Role, VariantFile
from registry.services import require_role
from registry.templatetags.aerogram import size, state


class EmbeddedForm(forms.Form):
    model = forms.ModelChoiceField(RegisteredModel.objects.none(), widget=UnfoldAdminSelectWidget)
    sha256 = forms.RegexField(
        r"^[0-9a-f]{64}$",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        label="SHA-256",
        help_text="Of a file of one of its variants, as `sha256sum` tells it of the file in the app.",
    )
    file = forms.FileField(
        required=False,
        widget=UnfoldAdminFileFieldWidget,
        help_text="Or the file itself, when it was never published here.",
    )
    file_name = forms.CharField(
        required=False,
        max_length=255,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "model.tflite"}),
        help_text="As in the app; its suffix tells which variants it is a base of.",
    )


@admin.register(EmbeddedModel)
class EmbeddedModelAdmin(MemberAdmin):
    list_display = ["file_name", "model", "digest", "length", "registered_by", "registered_at"]
    list_filter = ["application", "model"]
    add_role = Role.EDITOR
    empty_words = (
        "No embedded model",
        "Tell which model file an app ships with, and its first update can be a patch instead of the whole file.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[EmbeddedModel]:
        return super().get_queryset(request).select_related("application", "model__application", "artifact")

    @admin.display(description="SHA-256")
    def digest(self, row: EmbeddedModel) -> str:
        return f"{row.artifact.sha256[:12]}…"

    @admin.display(description="size")
    def length(self, row: EmbeddedModel) -> str:
        return size(row.artifact.size_bytes)

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        if not access.holds(request, Role.EDITOR):
            raise NotAllowed("expected the role editor in an application, got none")
        models = RegisteredModel.objects.filter(application__in=access.applications(request, Role.EDITOR))
        form = EmbeddedForm(request.POST or None, request.FILES or None)
        form.fields["model"].queryset = models.select_related("application")  # type: ignore[attr-defined]
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                return self._register(request, form.cleaned_data)
        return self.page(
            request,
            "distribution/rule.html",
            "An app ships with a model",
            form=form,
            has_file=True,
            words="Patches from this file to what is released are made now and with each later release.",
            button="Register",
            back=reverse("admin:distribution_embeddedmodel_changelist"),
        )

    def _register(self, request: HttpRequest, wanted: dict[str, Any]) -> HttpResponse:
        model = wanted["model"]
        require_role(request.user, model.application, Role.EDITOR)
        artifact, name = _artifact(request, wanted)
        row = patches.register_embedded(
            application=model.application,
            model=model,
            artifact=artifact,
            file_name=wanted["file_name"] or name,
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        messages.success(request, f"{row}; patches from it are being made.")
        return redirect("admin:distribution_embeddedmodel_changelist")


def _artifact(request: HttpRequest, wanted: dict[str, Any]) -> tuple[Artifact, str]:
    """The bytes, and what the file is called."""
    application = wanted["model"].application
    if (wanted["file"] is None) == (not wanted["sha256"]):
        raise Invalid("expected either a SHA-256 or a file, got both or neither", field="sha256")
    if wanted["sha256"]:
        artifact = patches.artifact_in_use(application=application, sha256=wanted["sha256"])
        return artifact, VariantFile.objects.filter(artifact=artifact).values_list("path", flat=True)[0]
    upload = services.receive_upload(
        application=application,
        chunks=wanted["file"].chunks(),
        file_name=wanted["file"].name,
        expected_sha256=None,
        user=request.user if request.user.is_authenticated else None,
        now=timezone.now(),
    )
    return upload.artifact, upload.file_name


@admin.register(Patch)
class PatchAdmin(MemberAdmin):
    list_display = ["leads_to", "leads_from", "how", "bytes_of", "detail", "made_at"]
    list_filter = ["application", "state"]
    search_fields = ["target__sha256", "base__sha256"]
    empty_words = (
        "No patches",
        "They are made after a release: from the five versions published before, and from what apps ship with.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Patch]:
        return super().get_queryset(request).select_related("application", "target", "base")

    @admin.display(description="to", ordering="target__sha256")
    def leads_to(self, row: Patch) -> str:
        return named(row.application_id, row.target)

    @admin.display(description="from", ordering="base__sha256")
    def leads_from(self, row: Patch) -> str:
        return named(row.application_id, row.base)

    @admin.display(description="state", ordering="state")
    def how(self, row: Patch) -> SafeString:
        return state(row.state)

    @admin.display(description="size", ordering="length")
    def bytes_of(self, row: Patch) -> str:
        return told_size(row)


def named(application_id: int, artifact: Artifact) -> str:
    """Where people know the bytes from: a version's variant, or an app."""
    files = VariantFile.objects.filter(artifact=artifact, variant__version__model__application=application_id)
    file = files.select_related("variant__version__model").order_by("variant__version__number").first()
    if file is not None:
        return f"{file.variant} {file.path}"
    embedded = EmbeddedModel.objects.filter(artifact=artifact, application=application_id).first()
    return str(embedded) if embedded else f"{artifact.sha256[:12]}…"


def told_size(row: Patch) -> str:
    if row.length is None:
        return "–"
    return f"{size(row.length)}, {100 * row.length / max(row.target.size_bytes, 1):.0f} % of the file"


@dataclass
class Line:
    row: Patch
    leads_to: str
    leads_from: str
    told_size: str


def patch_panel(request: HttpRequest, version: ModelVersion) -> SafeString:
    """On a version's page: the patches that lead to its files. Nothing before it was released."""
    if not Release.objects.filter(model_version=version).exists():
        return SafeString("")
    application = version.model.application
    of_version = VariantFile.objects.filter(variant__version=version, artifact=OuterRef("target"))
    rows = application.patches.filter(Exists(of_version)).select_related("target", "base").order_by("state", "-id")
    lines = [
        Line(row, named(application.pk, row.target), named(application.pk, row.base), told_size(row)) for row in rows
    ]
    return render_to_string("distribution/_patch_panel.html", {"lines": lines, "version": version}, request)
