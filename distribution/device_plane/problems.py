"""Errors of the device plane as RFC 9457 problem details."""

import json
from http import HTTPStatus


class Problem(Exception):  # the word of RFC 9457
    """An answer other than success. `field` names the part of the request at fault."""

    def __init__(
        self, status: int, code: str, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = headers or {}

    def body(self) -> bytes:
        document = {
            "type": f"urn:aerogram:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.field is not None:
            document["field"] = self.field
        return json.dumps(document, separators=(",", ":")).encode()


def bad_field(field: str, expected: str, got: str) -> Problem:
    shown = got if len(got) <= 80 else got[:79] + "…"  # noqa: PLR2004  # a line of text
    return Problem(400, "invalid_field", f"{field}: expected {expected}, got {shown!r}", field=field)


def not_found(code: str, detail: str, *, field: str | None = None) -> Problem:
    return Problem(404, code, detail, field=field, headers={"cache-control": "no-store"})


def unavailable(code: str, detail: str, *, retry_after_seconds: int) -> Problem:
    return Problem(503, code, detail, headers={"retry-after": str(retry_after_seconds), "cache-control": "no-store"})
