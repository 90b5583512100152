"""The admin site: what stops a page, and how that is told.

Pages register themselves with this site while they are imported, so what it needs of them is imported late.
"""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from deploy import problems
from registry.errors import DomainError, NotAllowed, NotFound
from registry.models import Membership, Role

View = Callable[..., HttpResponse]


class AerogramAdminSite(UnfoldAdminSite):  # type: ignore[misc]
    index_title = "Home"
    index_template = "deploy/home.html"

    def extra_urls(self) -> list[URLPattern]:
        return [path("state/", self.admin_view(self.state_view), name="home_state")]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from deploy import admin_home  # noqa: PLC0415

        answer: HttpResponse = super().index(request, {**(extra_context or {}), **admin_home.state(request)})
        return answer

    def state_view(self, request: HttpRequest) -> HttpResponse:
        """The part of the home page that changes by itself; the page asks for it again and again."""
        from deploy import admin_home  # noqa: PLC0415

        return TemplateResponse(request, "deploy/_home.html", admin_home.state(request))

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # noqa: FBT001, FBT002  Django's signature
        @wraps(view)
        def told(request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
            try:
                return view(request, *arguments, **named)
            except PermissionDenied as error:
                return self._stopped(request, NotAllowed(str(error) or "expected a higher role than yours"))
            except Http404 as error:
                return self._stopped(request, NotFound(str(error)))
            except DomainError as error:
                return self._stopped(request, error)

        wrapped: View = super().admin_view(told, cacheable)
        return wrapped

    def _stopped(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        """Scripts get the problem document that REST would send, people a page that says what to do."""
        status = _status_of(error)
        if request.headers.get("Accept", "").startswith("application/json"):
            document = problems.problem(status, code=error.code, detail=str(error), field=error.field)
            return JsonResponse(document, status=status, content_type=problems.CONTENT_TYPE)
        context = {
            **self.each_context(request),
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": str(error),
            "memberships": _memberships(request),
            "administrators": _administrators(request) if status == HTTPStatus.FORBIDDEN else [],
        }
        return TemplateResponse(request, "deploy/stopped.html", context, status=status)


def _status_of(error: DomainError) -> int:
    return next(code for family, code in problems.FAMILIES if isinstance(error, family))


def _memberships(request: HttpRequest) -> list[tuple[str, str]]:
    rows = Membership.objects.filter(user_id=request.user.pk or 0).select_related("application")
    return [(row.application.slug, Role(row.role).label) for row in rows]


def _administrators(request: HttpRequest) -> list[str]:
    """Whom to ask for a higher role."""
    mine = Membership.objects.filter(user_id=request.user.pk or 0).values("application")
    rows = Membership.objects.filter(application__in=mine, role=Role.ADMINISTRATOR)
    return sorted({row.user.get_username() for row in rows.select_related("user")})
