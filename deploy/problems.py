"""Error families → HTTP problem documents (RFC 9457). The one place where that is decided."""

from http import HTTPStatus
from typing import Any

from django.http import JsonResponse
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from registry import errors

FAMILIES: list[tuple[type[errors.DomainError], int]] = [
    (errors.Invalid, status.HTTP_400_BAD_REQUEST),
    (errors.NotAllowed, status.HTTP_403_FORBIDDEN),
    (errors.NotFound, status.HTTP_404_NOT_FOUND),
    (errors.Conflict, status.HTTP_409_CONFLICT),
    (errors.Unavailable, status.HTTP_503_SERVICE_UNAVAILABLE),
]
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
    if isinstance(error, errors.DomainError):
        status_code = next(code for family, code in FAMILIES if isinstance(error, family))
        return problem(status_code, code=error.code, detail=str(error), field=error.field)
    if isinstance(error, exceptions.ValidationError):
        field, detail = _first_fault(error.detail)
        return problem(400, code="invalid", detail=detail, field=field)
    if isinstance(error, exceptions.APIException):
        return problem(error.status_code, code=str(error.default_code), detail=str(error.detail))
    return None


def _first_fault(detail: Any, path: str = "") -> tuple[str | None, str]:
    """The first message in DRF's nested answer, and the dotted path of the member it is about."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        return _first_fault(inner, f"{path}.{name}".strip("."))
    if isinstance(detail, list):
        return _first_fault(detail[0], path)
    return path or None, str(detail)


def not_found(_request: Any, exception: Exception | None = None) -> JsonResponse:  # noqa: ARG001
    """Django's 404 for addresses that match no route."""
    document = problem(404, code="not_found", detail="expected a documented address, got an unknown one")
    return JsonResponse(document, status=404, content_type=CONTENT_TYPE)
