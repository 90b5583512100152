"""Who sees and does what in the admin: the role in the row's application decides, as in REST."""

from typing import Any

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest

from registry.models import Application, Membership, Role
from registry.services import require_role


def held_roles(request: HttpRequest) -> dict[int, int]:
    """Application id -> role of the signed-in user. Asked once a request."""
    known: dict[int, int] | None = getattr(request, "aerogram_roles", None)
    if known is None:
        rows = Membership.objects.filter(user_id=request.user.pk or 0)
        known = dict(rows.values_list("application_id", "role"))
        request.aerogram_roles = known  # type: ignore[attr-defined]
    return known


def is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def holds(request: HttpRequest, role: Role, application_id: int | None = None) -> bool:
    """Whether the user has the role, or a higher one, there; without an application: anywhere."""
    if is_superuser(request):
        return True
    roles = held_roles(request)
    if application_id is None:
        return any(held >= role for held in roles.values())
    return roles.get(application_id, 0) >= role


def applications(request: HttpRequest, role: Role = Role.VIEWER) -> QuerySet[Application]:
    """Those in which the user has the role."""
    if is_superuser(request):
        return Application.objects.all()
    return Application.objects.filter(pk__in=[pk for pk, held in held_roles(request).items() if held >= role])


def member_of(request: HttpRequest) -> bool:
    """Does the user belong to any application? This and the next three are for the side bar."""
    return holds(request, Role.VIEWER)


def may_edit(request: HttpRequest) -> bool:
    return holds(request, Role.EDITOR)


def may_release(request: HttpRequest) -> bool:
    return holds(request, Role.RELEASER)


def may_administer(request: HttpRequest) -> bool:
    return holds(request, Role.ADMINISTRATOR)


def find(request: HttpRequest, rows: QuerySet[Any], pk: object, role: Role, application_path: str) -> Any:
    """The row of that id. Raises `Http404`, or `NotAllowed` when the user has not the role in its application."""
    row = rows.filter(pk=pk).first() if str(pk).isdigit() else None
    if row is None:
        kind = rows.model._meta.verbose_name  # noqa: SLF001 - Django's public name
        raise Http404(f"expected the id that one {kind} has, got {pk!r}")
    require_role(request.user, application_of(row, application_path), role)
    return row


def application_of(row: Model, path: str) -> Application:
    """Follow `model__application` and the like from a row; an empty path is the row itself."""
    found: Any = row
    for name in filter(None, path.split("__")):
        found = getattr(found, name)
    assert isinstance(found, Application)
    return found
