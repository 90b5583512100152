"""Error families → HTTP problem documents (RFC 9457). The one place where that is decided."""

import logging
from http import HTTPStatus
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from registry import errors

# The first that fits decides; what departs from its family's status stands before the family.
FAMILIES: list[tuple[type[errors.DomainError], int]] = [
    (errors.IfMatchMissing, status.HTTP_428_PRECONDITION_REQUIRED),
    (errors.Stale, status.HTTP_412_PRECONDITION_FAILED),
    (errors.Invalid, status.HTTP_400_BAD_REQUEST),
    (errors.NotAllowed, status.HTTP_403_FORBIDDEN),
    (errors.NotFound, status.HTTP_404_NOT_FOUND),
    (errors.Conflict, status.HTTP_409_CONFLICT),
    (errors.Unavailable, status.HTTP_503_SERVICE_UNAVAILABLE),
]
logger = logging.getLogger(__name__)
UNIQUE_VIOLATION = "23505"  # PostgreSQL's code for a row that somebody else made a moment before
CONTENT_TYPE = "application/problem+json"


def problem(status_code: int, *, code: str, detail: str, field: str | None = None) -> dict[str, Any]:
    """The document: type, title, status, detail, code and, where one is at fault, field."""
    document: dict[str, Any] = {
        "type": f"urn:aerogram:problem:{code}",
        "title": HTTPStatus(status_code).phrase,
        "status": status_code,
        "detail": detail,
        "code": code,
    }
    return document | ({"field": field} if field else {})


def exception_handler(error: Exception, _context: dict[str, Any]) -> Response | None:
    """What DRF calls for an exception in a view; None lets it become a 500 with a trace in the log."""
    document = _document(error)
    if document is None:
        return None
    set_rollback()
    response = Response(document, status=document["status"], content_type=CONTENT_TYPE)
    if isinstance(error, exceptions.APIException):
        for header in ("WWW-Authenticate", "Retry-After"):
            value = getattr(error, {"WWW-Authenticate": "auth_header", "Retry-After": "wait"}[header], None)
            if value is not None:
                response[header] = str(value)
    return response


def _document(error: Exception) -> dict[str, Any] | None:
    if isinstance(error, IntegrityError) and getattr(error.__cause__, "pgcode", None) == UNIQUE_VIOLATION:
        logger.warning("made twice at once", exc_info=error)
        error = errors.Conflict("expected nobody else to make the same, another request just did")
    if isinstance(error, errors.DomainError):
        status_code = next(code for family, code in FAMILIES if isinstance(error, family))
        return problem(status_code, code=error.code, detail=str(error), field=error.field)
    if isinstance(error, exceptions.ValidationError):
        field, detail = _first_fault(error.detail)
        return problem(400, code="invalid", detail=detail, field=field)
    if isinstance(error, exceptions.APIException):
        return problem(error.status_code, code=str(error.default_code), detail=str(error.detail))
    if isinstance(error, UnreadablePostError):
        return problem(400, code="upload_incomplete", detail="expected the whole body, the connection ended before")
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("database away", exc_info=error)
        return problem(503, code="unavailable", detail="expected the database to answer, it did not; try again later")
    return None


def _first_fault(detail: Any, path: str = "") -> tuple[str | None, str]:
    """The first message in DRF's nested answer, and the dotted path of the member it is about."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        return _first_fault(inner, f"{path}.{name}".strip("."))
    if isinstance(detail, list):
        return _first_fault(detail[0], path)
    return path or None, str(detail)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404 for addresses that match no route."""
    if not _is_rest(request):
        return defaults.page_not_found(request, exception)
    return _json(404, "not_found", "expected a documented address, got an unknown one")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400 for requests that it refuses itself: an unknown host, too many parameters."""
    if not _is_rest(request):
        return defaults.bad_request(request, exception)
    return _json(400, "bad_request", "expected a well-formed request to a host of this server")


def server_error(request: HttpRequest) -> HttpResponse:
    """What nobody foresaw; the trace is in the log."""
    if not _is_rest(request):
        return defaults.server_error(request)
    return _json(500, "internal_error", "expected to answer, failed; the server's log says why")


def _is_rest(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _json(status_code: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse(problem(status_code, code=code, detail=detail), status=status_code, content_type=CONTENT_TYPE)
