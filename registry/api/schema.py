"""The OpenAPI document, derived from the `verbs` of each view."""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from registry.api.base import NounView, Verb
from registry.api.pages import PageQuery
from registry.api.serializers import Problem
from registry.models import Role

PROBLEM = "application/problem+json"
ALWAYS = {401: "no token, or one that is unknown or expired", 503: "a part does not answer"}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "registry.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002 their signature
        return {"type": "http", "scheme": "bearer"}


class VerbSchema(AutoSchema):
    """What drf-spectacular asks of a view, answered from its table."""

    def _verb(self) -> Verb | None:
        return self.view.verbs.get(self.method) if isinstance(self.view, NounView) else None

    def get_operation_id(self) -> str:
        words = re.findall(r"[a-z0-9]+", self.path.removeprefix("/api/v1"))
        return "_".join([self.method.lower(), *words])

    def get_tags(self) -> list[str]:
        words: list[str] = re.findall(
            r"/([a-z-]+)", self.path.removeprefix("/api/v1").replace("/applications/{application}", "")
        )
        return [words[0] if words else "applications"]

    def get_summary(self) -> str | None:
        verb = self._verb()
        return verb.summary if verb else None

    def get_description(self) -> str:  # type: ignore[override]
        verb = self._verb()
        if verb is None:
            return ""
        if verb.role is not None:
            return f"Needs the role {Role(verb.role).label}."
        return "Needs a superuser." if verb.superuser else "Open to every caller with a token."

    def get_request_serializer(self) -> Any:
        verb = self._verb()
        if verb is not None and verb.takes_bytes:
            return {"application/octet-stream": OpenApiTypes.BINARY}
        return verb.body if verb else None

    def get_response_serializers(self) -> Any:
        verb = self._verb()
        if verb is None:
            return None
        answer = verb.answer(many=True) if verb.answer and verb.many else verb.answer
        problems = {
            (status, PROBLEM): OpenApiResponse(Problem, description)
            for status, description in sorted(self._problems(verb).items())
        }
        tried = {verb.tried_status: OpenApiResponse(answer, "tried, and nothing done")} if verb.tried_status else {}
        return {verb.status: OpenApiResponse(answer, verb.summary), **tried, **problems}

    def get_override_parameters(self) -> list[Any]:
        verb = self._verb()
        if verb is None:
            return []
        parameters: list[Any] = [verb.query or PageQuery] if verb.query or verb.many else []
        if verb.conditional:
            text = "The ETag of the state that the change was made from."
            parameters.append(OpenApiParameter("If-Match", str, "header", required=True, description=text))
        if verb.idempotent:
            text = "1 to 255 characters of your choice; the same request sent again gets the first answer."
            parameters.append(OpenApiParameter("Idempotency-Key", str, "header", description=text))
        if verb.many:
            text = 'The next page: <address>; rel="next". Absent on the last one.'
            parameters.append(OpenApiParameter("Link", str, "header", description=text, response=[verb.status]))
        return parameters

    def _problems(self, verb: Verb) -> dict[int, str]:
        found = dict(ALWAYS)
        if verb.body or verb.query or verb.many or verb.idempotent:
            found[400] = "a member or a parameter is wrong"
        if verb.takes_bytes or verb.body:
            found[415] = "another media type than documented"
        if verb.role is not None or verb.superuser:
            found[403] = "the role or the token does not reach so far"
        if "{" in self.path:
            found[404] = "nothing of that name"
        if self.method != "GET":
            found[409] = "does not fit the present state"
        if verb.conditional:
            found |= {412: "changed since", 428: "If-Match is missing"}
        return found
