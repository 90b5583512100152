"""Creations that may be sent twice: the second time they get the first answer.

The key, the work and the answer stand in one transaction: after a crash either all of it happened or nothing, and a
second request that comes meanwhile waits for the first. Refusals are not kept: nothing was created, so a repeated
request is judged anew. Nor is what was only tried: the same key then stands for doing it.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors
from registry.api.access import token_of
from registry.models import ApiToken, IdempotencyKey

LONGEST_KEY = 255
LIFE = timedelta(days=7)
PATIENCE = "5s"
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code for a lock that was not got in time
REPLAYED = "Idempotent-Replayed"
KEPT_HEADERS = ("ETag", "Location")

Handler = Callable[..., Response]


def once_per_key(handler: Handler) -> Handler:
    """Wrap a method that creates. Without an Idempotency-Key it runs as it is."""

    @wraps(handler)
    def once(view: Any, request: Request, **names: Any) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None or view.is_trial(request):
            return handler(view, request, **names)
        row = IdempotencyKey(
            token=token_of(request),
            key=_checked(key),
            request_sha256=_digest(request, view.what_is_sent(request)),
            created_at=timezone.now(),
        )
        with transaction.atomic():
            known = _take(row)
            if known is not None:
                return _replay(known, row.request_sha256)
            answer = handler(view, request, **names)
            _keep(row, answer)
        return answer

    return once


def _checked(key: str) -> str:
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        expected = f"1 to {LONGEST_KEY} printable ASCII characters"
        raise errors.Invalid(f"expected {expected}, got {key[:40]!r}", field="Idempotency-Key")
    return key


def _digest(request: Request, sent: Any) -> str:
    said = [request.method, request.path, sorted(request.query_params.items()), sent]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _take(row: IdempotencyKey) -> IdempotencyKey | None:
    """Make the key ours, or find the row of the request that had it before."""
    token: ApiToken = row.token
    token.idempotency_keys.filter(created_at__lt=row.created_at - LIFE).delete()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
            row.save(force_insert=True)
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    except IntegrityError:
        return token.idempotency_keys.get(key=row.key)
    except OperationalError as error:
        if getattr(error.__cause__, "pgcode", None) != LOCK_NOT_AVAILABLE:
            raise
        raise errors.IdempotencyKeyBusy(f"expected the first request with the key {row.key!r} to be done") from error
    return None


def _replay(known: IdempotencyKey, request_sha256: str) -> Response:
    if known.request_sha256 != request_sha256:
        raise errors.IdempotencyKeyReused(f"expected the request that the key {known.key!r} was first sent with")
    return Response(json.loads(known.answer), status=known.status, headers={**known.headers, REPLAYED: "true"})


def _keep(row: IdempotencyKey, answer: Response) -> None:
    row.status = answer.status_code
    row.headers = {name: answer[name] for name in KEPT_HEADERS if name in answer}
    row.answer = JSONRenderer().render(answer.data).decode()
    row.save(update_fields=["status", "headers", "answer"])
