"""Models and their versions: how far conversions are, what each variant costs, and withdrawing a version."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget

from registry import services
from registry.admin import access, comparison, conversions, picture, shared
from registry.admin.shared import MemberAdmin, refusals_in
from registry.admin.uploads import receive_view, register_view, upload_page
from registry.models import (
    ConversionJob,
    DeviceBenchmark,
    JobState,
    ModelVersion,
    RegisteredModel,
    Reproduction,
    Role,
)
from registry.models.conversions import UNFINISHED
from registry.services.matrix import matrix
from registry.templatetags.aerogram import state

FAILED_STATES = (
    JobState.FAILED,
    JobState.TIMED_OUT,
    JobState.OUT_OF_MEMORY,
    JobState.CRASHED,
    JobState.PARITY_MISSED,
)


class YankForm(forms.Form):
    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), max_length=2000, help_text="Stands in the audit log."
    )


def progress(jobs: Sequence[ConversionJob]) -> dict[str, Any]:
    """How far a version's conversions are, in numbers and one word."""
    counted = [job for job in jobs if job.state != JobState.NOT_APPLICABLE]
    finished = [job for job in counted if job.state not in UNFINISHED]
    failed = [job for job in counted if job.state in FAILED_STATES]
    is_open = len(finished) < len(counted)
    return {
        "total": len(counted),
        "finished": len(finished),
        "failed": len(failed),
        "percent": round(100 * len(finished) / len(counted)) if counted else 100,
        "is_open": is_open,
        "state": JobState.RUNNING if is_open else JobState.FAILED if failed else JobState.SUCCEEDED,
    }


@admin.register(RegisteredModel)
class RegisteredModelAdmin(MemberAdmin):
    list_display = ["slug", "application", "newest", "conversions", "created_at"]
    list_filter = ["application"]
    search_fields = ["slug", "name"]
    add_role = Role.EDITOR
    empty_words = (
        "No model yet",
        "Upload a trained .keras, SavedModel or .tflite file: its first version makes the model.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RegisteredModel]:
        versions = ModelVersion.objects.prefetch_related("jobs")
        return (
            super().get_queryset(request).select_related("application").prefetch_related(Prefetch("versions", versions))
        )

    @admin.display(description="newest version")
    def newest(self, model: RegisteredModel) -> str:
        newest = next(iter(model.versions.all()), None)
        return f"{newest.number}, {newest.registered_at:%Y-%m-%d %H:%M}" if newest else "none"

    @admin.display
    def conversions(self, model: RegisteredModel) -> SafeString | str:
        newest = next(iter(model.versions.all()), None)
        return state(progress(list(newest.jobs.all()))["state"]) if newest else "–"

    def get_urls(self) -> list[URLPattern]:
        return [*conversions.model_urls(self), *super().get_urls()]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        """The first version makes the model."""
        return upload_page(self, request)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        model: RegisteredModel = self.find(request, object_id)
        versions = list(model.versions.select_related("source").prefetch_related("jobs", "variants"))
        for version in versions:
            version.progress = progress(list(version.jobs.all()))  # type: ignore[attr-defined]
            version.measured = comparison.rows(version)  # type: ignore[attr-defined]
        return self.page(
            request,
            "registry/model.html",
            str(model),
            model=model,
            versions=versions,
            can_upload=access.holds(request, Role.EDITOR, model.application_id),
            can_release=access.holds(request, Role.RELEASER, model.application_id),
            profiles=model.profiles.all(),
        )


@admin.register(ModelVersion)
class ModelVersionAdmin(MemberAdmin):
    list_display = ["name", "application", "source_file_name", "conversions", "registered_by", "registered_at"]
    list_filter = ["model__application", "model"]
    search_fields = ["model__slug", "source_file_name", "notes"]
    ordering = ["-registered_at"]
    application_path = "model__application"
    add_role = Role.EDITOR
    empty_words = ("No version yet", "Upload a trained model; Aerogram converts it and measures every variant.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).select_related("model__application").prefetch_related("jobs")

    @admin.display(description="version", ordering="model__slug")
    def name(self, version: ModelVersion) -> str:
        return str(version)

    @admin.display
    def application(self, version: ModelVersion) -> str:
        return str(version.model.application)

    @admin.display
    def conversions(self, version: ModelVersion) -> SafeString:
        return state("yanked" if version.yanked_at else progress(list(version.jobs.all()))["state"])

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("add/receive/", wrap(receive_view), name="registry_modelversion_receive"),
            path("add/register/", wrap(register_view), name="registry_modelversion_register"),
            path("<int:pk>/work/", wrap(self.work_view), name="registry_modelversion_work"),
            path("<int:pk>/yank/", wrap(self.yank_view), name="registry_modelversion_yank"),
            *conversions.version_urls(self),
            *super().get_urls(),
        ]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        return upload_page(self, request)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        version: ModelVersion = self.find(request, object_id)
        is_releaser = access.holds(request, Role.RELEASER, version.model.application_id)
        return self.page(
            request,
            "registry/version.html",
            str(version),
            version=version,
            can_yank=is_releaser and version.yanked_at is None,
            extra_files=version.files.select_related("artifact"),
            parts=version.parts.select_related("part__model"),
            part_of=version.part_of.select_related("version__model"),
            **_work(request, version),
        )

    def work_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes while conversions run; the page asks for it again and again."""
        version: ModelVersion = self.find(request, pk)
        return self.page(request, "registry/_work.html", "", version=version, **_work(request, version))

    def yank_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        version: ModelVersion = self.find(request, pk, Role.RELEASER)
        form = YankForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                services.yank_version(
                    version=version,
                    reason=form.cleaned_data["reason"],
                    actor=request.user.get_username(),
                    now=timezone.now(),
                )
                messages.success(request, f"{version} is yanked: no new decision chooses it.")
                return redirect("admin:registry_modelversion_change", version.pk)
        return self.page(request, "registry/yank.html", f"Yank {version}", version=version, form=form)


def _work(request: HttpRequest, version: ModelVersion) -> dict[str, Any]:
    jobs = list(version.jobs.all())
    application_id = version.model.application_id
    other = _other(request, version)
    rows = comparison.rows(version, other)
    measures = [row.now for row in rows]
    return {
        "panels": [panel(request, version) for panel in shared.version_panels],
        "matrix": matrix(version),
        "can_steer": access.holds(request, Role.EDITOR, application_id),
        "can_release": access.holds(request, Role.RELEASER, application_id),
        "benchmarks": DeviceBenchmark.objects.filter(variant__version=version).select_related("variant")[:50],
        "reproductions": Reproduction.objects.filter(variant__version=version).select_related("variant")[:20],
        "progress": progress(jobs),
        "rows": rows,
        "other": other,
        "others": list(version.model.versions.exclude(pk=version.pk).filter(variants__isnull=False).distinct()),
        "wide_picture": picture.bytes_by_accuracy(measures, width=720, height=300) or picture.bars(measures, width=720),
        "narrow_picture": picture.bytes_by_accuracy(measures, width=340, height=320)
        or picture.bars(measures, width=340),
        "work_url": reverse("admin:registry_modelversion_work", args=[version.pk]),
        "now": timezone.now(),
    }


def _other(request: HttpRequest, version: ModelVersion) -> ModelVersion | None:
    """The version to compare with: `?with=<number>`, `?with=none`, else the converted one before this."""
    converted = version.model.versions.filter(variants__isnull=False).exclude(pk=version.pk).distinct()
    wanted = request.GET.get("with", "")
    if wanted == "none":
        return None
    if wanted.isdigit():
        return converted.filter(number=int(wanted)).first()
    return converted.filter(number__lt=version.number).first()
