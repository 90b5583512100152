"""What the admin's pages share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import get_fields_from_path
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from registry.admin import access
from registry.errors import DomainError, Stale
from registry.models import Application, ModelVersion, Role

# Apps above the registry add what they know of a version here: where it is live, and the way to publish it.
version_panels: list[Callable[[HttpRequest, ModelVersion], SafeString]] = []
Row = TypeVar("Row", bound=Model)


@contextmanager
def refusals_in(form: forms.BaseForm) -> Iterator[None]:
    """What a service refuses is told in the form, beside the field it is about where the form has that one."""
    try:
        yield
    except DomainError as error:
        form.add_error(error.field if error.field in form.fields else None, str(error))


@contextmanager
def refusals_told(request: HttpRequest) -> Iterator[None]:
    """The same for a button without a form: it is told on the next page."""
    try:
        yield
    except DomainError as error:
        messages.error(request, str(error))


@contextmanager
def unchanged(request: HttpRequest, row: Row) -> Iterator[Row]:
    """The row, locked. Raises `Stale` when it is not the one that the page showed."""
    with transaction.atomic():
        fresh = type(row)._default_manager.select_for_update().get(pk=row.pk)  # noqa: SLF001 - Django's public name
        if request.POST.get("row_version") != str(fresh.row_version):  # type: ignore[attr-defined]
            raise Stale(f"expected {row} as the page showed it, it was changed since the page was opened")
        yield fresh


class MemberAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows of one's own applications only; adding and changing need the roles named, None means nobody."""

    application_path: ClassVar[str] = "application"
    view_role: ClassVar[Role] = Role.VIEWER
    add_role: ClassVar[Role | None] = None
    change_role: ClassVar[Role | None] = None
    delete_role: ClassVar[Role | None] = None
    empty_words: ClassVar[tuple[str, str]] = ("Nothing here yet", "")
    list_filter_submit = False
    actions = None

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Of relations only what the user's own rows have: a filter must not name what one may not see."""
        filters = super().get_list_filter(request)
        return [(name, admin.RelatedOnlyFieldListFilter) if self._is_relation(name) else name for name in filters]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.filter(**{f"{self.application_path}__in": access.applications(request, self.view_role)})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.member_of(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return access.holds(request, self.view_role, self._application_id(obj))

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return self.add_role is not None and access.holds(request, self.add_role)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.change_role is not None and access.holds(request, self.change_role, self._application_id(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.delete_role is not None and access.holds(request, self.delete_role, self._application_id(obj))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """A list without a single row says what will stand there, and how to begin."""
        if self.has_view_permission(request) and not request.GET and not self.get_queryset(request).exists():
            return self.page(request, "registry/empty_list.html", "", words=self.empty_words)
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def page(
        self, request: HttpRequest, template: str, title: str, *, status: int = 200, **context: Any
    ) -> TemplateResponse:
        """One of our own pages, inside the admin's frame."""
        request.current_app = self.admin_site.name
        frame = self.admin_site.each_context(request)
        opts = {"opts": self.opts, "title": title, "has_add_permission": self.has_add_permission(request)}
        return TemplateResponse(request, template, {**frame, **opts, **context}, status=status)

    def find(self, request: HttpRequest, pk: object, role: Role | None = None) -> Any:
        """The row of that id, for who may see it or has the role. Raises `Http404` or `NotAllowed`."""
        return access.find(request, self.model.objects.all(), pk, role or self.view_role, self.application_path)

    def _is_relation(self, path: str) -> bool:
        return bool(get_fields_from_path(self.model, path)[-1].is_relation)

    def _application_id(self, row: Model | None) -> int | None:
        return None if row is None else access.application_of(row, self.application_path).pk


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose `clean` has a service save: there a refusal can still be shown beside the field it is about."""

    request: HttpRequest

    def _post_clean(self) -> None:
        """The service has checked and saved; Django's own checks of the instance would come too late."""


class ServiceFormAdmin(MemberAdmin):
    """Rows that a `ServiceForm` saves, in applications that the user administers."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:  # noqa: FBT001, FBT002
        form = super().get_form(request, obj, change, **options)
        form.request = request
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "application":
            options["queryset"] = access.applications(request, Role.ADMINISTRATOR)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:  # noqa: ARG002, FBT001
        return form.instance

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001
        """Saved by the form, through the service."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        """There is nothing else to save."""


def choose_application(request: HttpRequest, role: Role) -> tuple[list[Application], Application | None]:
    """Those the user may choose among, and the one chosen by `?application=`, or the only one."""
    allowed = list(access.applications(request, role))
    wanted = request.GET.get("application", "")
    chosen = next((application for application in allowed if application.slug == wanted), None)
    return allowed, chosen or (allowed[0] if allowed else None)
