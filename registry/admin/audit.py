"""The audit log, and whether its chain of hashes holds."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse

from registry.admin import access
from registry.admin.shared import MemberAdmin
from registry.models import AuditEntry
from registry.templatetags.aerogram import code

CHECKED_AT_ONCE = 5_000  # entries; a longer chain is walked when somebody asks for it


@admin.register(AuditEntry)
class AuditEntryAdmin(MemberAdmin):
    """The log, and whether every line still follows from the one before it."""

    list_display = ["moment", "who", "what", "subject", "change", "reason"]
    list_display_links = ["moment"]
    list_filter = ["verb", "application", "actor"]
    search_fields = ["subject", "actor", "reason"]
    list_before_template = "registry/audit_before.html"
    list_per_page = 50
    empty_words = (
        "Nothing happened yet",
        "Whatever people, scripts and guardrails do is written here, once and for all.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """Entries name their application by its slug, which outlives the row."""
        rows: QuerySet[AuditEntry] = AuditEntry.objects.all()
        if access.is_superuser(request):
            return rows
        return rows.filter(application__in=access.applications(request).values_list("slug", flat=True))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if isinstance(obj, AuditEntry) and not access.is_superuser(request):
            return access.applications(request).filter(slug=obj.application).exists()
        return access.member_of(request)

    @admin.display(description="at", ordering="id")
    def moment(self, entry: AuditEntry) -> str:
        return f"{entry.at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="actor", ordering="actor")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor

    @admin.display(description="verb", ordering="verb")
    def what(self, entry: AuditEntry) -> str:
        return entry.verb.replace("_", " ")

    @admin.display
    def change(self, entry: AuditEntry) -> str:
        told = [code(document) for document in (entry.before, entry.after) if document]
        return " → ".join(text if len(text) <= 60 else f"{text[:59]}…" for text in told)  # noqa: PLR2004

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "chain": _chain(request)})


def _chain(request: HttpRequest) -> dict[str, Any]:
    query = request.GET.copy()
    asked = query.pop("check", None)
    request.GET = query  # type: ignore[assignment]  # Django would take it for a filter
    entries = AuditEntry.objects.count()
    if entries > CHECKED_AT_ONCE and not asked:
        return {"entries": entries, "is_checked": False}
    return {"entries": entries, "is_checked": True, "broken": AuditEntry.first_broken()}
