"""What every address of the REST API does alike.

A view says in `verbs` what each of its methods needs and gives. Roles, reading of bodies and queries, pages, ETags,
repeated requests and the OpenAPI document all follow from that one table, so that none of them can be forgotten.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import errors
from registry.api import access
from registry.api.idempotency import once_per_key
from registry.api.pages import PageQuery, one_page
from registry.models import Application, Role

AnySerializer = type[serializers.BaseSerializer[Any]]
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What one method of an address needs and gives.

    `role`: the lowest role in the application; None where any caller may, or, with `superuser`, superusers alone.
    `answer`: None for an empty answer. `many`: a list, in pages. `conditional`: needs If-Match. `idempotent`: may be
    sent again with the same Idempotency-Key. `tried_status`: of the same answer when nothing was done, only tried.
    """

    summary: str
    role: Role | None = None
    superuser: bool = False
    answer: AnySerializer | None = None
    many: bool = False
    body: AnySerializer | None = None
    takes_bytes: bool = False
    query: type[serializers.Serializer[Any]] | None = None
    status: int = 200
    tried_status: int | None = None
    conditional: bool = False
    idempotent: bool = False


class NounView(APIView):
    """One address below `/api/v1`. `application` is found, and the role in it checked, before a method runs."""

    verbs: ClassVar[Mapping[str, Verb]] = {}
    application: Application
    application_slug: str | None = None

    def __init_subclass__(cls) -> None:
        """A method without an entry in `verbs` would be open to everybody: such a class cannot be made."""
        methods = {name.upper() for name in METHODS if hasattr(cls, name)}
        if methods != set(cls.verbs):
            raise TypeError(f"{cls.__name__}: expected verbs for {sorted(methods)}, got {sorted(cls.verbs)}")
        for name in METHODS:
            if name in vars(cls) and cls.verbs[name.upper()].idempotent:
                setattr(cls, name, once_per_key(getattr(cls, name)))

    def dispatch(self, request: Any, *arguments: Any, application: str | None = None, **names: Any) -> HttpResponseBase:
        self.application_slug = application
        return super().dispatch(request, *arguments, **names)

    def initial(self, request: Request, *arguments: Any, **names: Any) -> None:
        super().initial(request, *arguments, **names)
        verb = self.verb(request)
        if verb is None:
            return  # no such method: 405 follows
        if verb.superuser:
            access.require_superuser(request)
        if verb.role is not None:
            assert self.application_slug is not None
            self.application = access.find_application(request, self.application_slug, verb.role)

    def verb(self, request: Request) -> Verb | None:
        method = str(request.method)
        return self.verbs.get("GET" if method == "HEAD" else method)

    def actor(self, request: Request) -> str:
        return request.user.get_username()

    def body(self, request: Request) -> dict[str, Any]:
        """What was sent, checked. Raises DRF's ValidationError."""
        return self._checked(self._said(request).body, request.data)

    def query(self, request: Request) -> dict[str, Any]:
        """The query, checked."""
        verb = self._said(request)
        return self._checked(verb.query or PageQuery, request.query_params.dict())

    def shown(self, request: Request, row: Any) -> Response:
        """The answer for one row, with its ETag where it has one."""
        verb = self._said(request)
        if verb.answer is None:
            return Response(status=verb.status)
        tag = entity_tag(row) if hasattr(row, "row_version") else None
        return Response(
            verb.answer(row, context={"request": request}).data,
            status=verb.status,
            headers={"ETag": tag} if tag else None,
        )

    def page(self, request: Request, rows: QuerySet[Any], *, by: str) -> Response:
        """One page of rows in the order of the unique column `by` (`-by` falls), and a Link to the next."""
        verb = self._said(request)
        assert verb.answer is not None
        wanted = self.query(request)
        shown, following = one_page(rows, by=by, limit=wanted["limit"], after=wanted.get("after"))
        answer = Response(verb.answer(shown, many=True, context={"request": request}).data)
        if following is not None:
            link = request.build_absolute_uri(f"{request.path}?{_with(request, after=following)}")
            answer["Link"] = f'<{link}>; rel="next"'
        return answer

    @contextmanager
    def unchanged(self, request: Request, row: Any) -> Iterator[Any]:
        """Hold the row locked, at the state that the caller's If-Match names. Raises `IfMatchMissing` or `Stale`."""
        with transaction.atomic():
            # Rows that refer to it can be made meanwhile: who makes one may hold the audit log that this waits for.
            locked = type(row).objects.select_for_update(no_key=True).filter(pk=row.pk).first()
            if locked is None:
                raise errors.Stale("expected the state that If-Match names, got nothing: it was deleted meanwhile")
            require_match(request, entity_tag(locked))
            yield locked

    def is_trial(self, request: Request) -> bool:  # noqa: ARG002  of most addresses nothing can be tried
        """Whether nothing is to be done, only looked at what it would do."""
        return False

    def what_is_sent(self, request: Request) -> Any:
        """What tells one request with an Idempotency-Key from another one."""
        return request.data

    def _said(self, request: Request) -> Verb:
        verb = self.verb(request)
        assert verb is not None
        return verb

    def _checked(self, serializer: AnySerializer | None, data: Any) -> dict[str, Any]:
        assert serializer is not None
        checked = serializer(data=data)
        checked.is_valid(raise_exception=True)
        found: dict[str, Any] = checked.validated_data
        return found


def entity_tag(row: Any) -> str:
    return f'"{row.pk}.{row.row_version}"'


def require_match(request: Request, tag: str) -> None:
    """Raises `IfMatchMissing` (428) without If-Match, `Stale` (412) when none of its tags is `tag`."""
    condition = request.headers.get("If-Match")
    if condition is None:
        raise errors.IfMatchMissing(f"expected If-Match with the ETag of the state you saw, now {tag}; got none")
    given = [part.strip() for part in condition.split(",")]
    if tag not in given and given != ["*"]:
        raise errors.Stale(f"expected If-Match: {tag}, the present state, got {condition}")


def _with(request: Request, **changes: str) -> str:
    query = request.query_params.copy()
    for name, value in changes.items():
        query[name] = value
    return query.urlencode()
