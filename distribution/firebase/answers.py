"""What every address of Google's APIs does alike here: roles as elsewhere, refusals in Google's shape."""

from collections.abc import Callable
from typing import Any

from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from distribution.firebase import wire
from distribution.firebase.errors import FirebaseInvalid, FirebaseNameTaken
from registry import errors
from registry.api.base import NounView

# The first that fits decides.
WORDS: list[tuple[type[Exception], str]] = [
    (FirebaseNameTaken, "ALREADY_EXISTS"),
    (errors.Stale, "ABORTED"),
    (errors.Invalid, "INVALID_ARGUMENT"),
    (errors.NotAllowed, "PERMISSION_DENIED"),
    (errors.NotFound, "NOT_FOUND"),
    (errors.Conflict, "FAILED_PRECONDITION"),
    (errors.Unavailable, "UNAVAILABLE"),
    (exceptions.NotAuthenticated, "UNAUTHENTICATED"),
    (exceptions.AuthenticationFailed, "UNAUTHENTICATED"),
    (exceptions.PermissionDenied, "PERMISSION_DENIED"),
    (exceptions.NotFound, "NOT_FOUND"),
    (exceptions.Throttled, "RESOURCE_EXHAUSTED"),
    (exceptions.APIException, "INVALID_ARGUMENT"),
]


class GoogleView(NounView):
    """Not part of the documented REST API of version 1, so its schema does not list it."""

    schema = None

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return refusal


def refusal(error: Exception, _context: dict[str, Any]) -> Response | None:
    """None lets what nobody foresaw become a 500 with a trace in the log."""
    word = next((word for kind, word in WORDS if isinstance(error, kind)), None)
    if word is None:
        return None
    set_rollback()
    message, detail = str(error), getattr(error, "detail", "")
    if isinstance(error, FirebaseInvalid):
        message, detail = wire.INVALID_ARGUMENT, str(error)
    status = error.status_code if isinstance(error, exceptions.APIException) else wire.CODES[word][1]
    answer = Response(wire.error_body(status, word, message, str(detail)), status=status)
    if word == "UNAUTHENTICATED":
        answer["WWW-Authenticate"] = "Bearer"
    return answer
