"""A caller's own tokens. A token sees, makes and revokes only such as can do no more than itself."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors
from registry.api.access import token_of
from registry.api.base import NounView, Verb
from registry.api.serializers import NewTokenSerializer, TokenRequest, TokenSerializer
from registry.models import ApiToken, Application, Role
from registry.services.tokens import issue_token, revoke_token


class TokensView(NounView):
    verbs = {
        "GET": Verb(summary="The caller's tokens", answer=TokenSerializer, many=True),
        "POST": Verb(
            summary="Make a token for the caller; its text is shown this once",
            body=TokenRequest,
            answer=NewTokenSerializer,
            status=201,
        ),
    }

    def get(self, request: Request) -> Response:
        tokens = ApiToken.objects.within(token_of(request)).select_related("application")
        return self.page(request, tokens, by="pk")

    def post(self, request: Request) -> Response:
        if "Idempotency-Key" in request.headers:
            # The kept answer would hold the token, which must not be stored.
            raise errors.Invalid("expected no Idempotency-Key, for a token is never kept", field="Idempotency-Key")
        wanted = self.body(request)
        application = _application(wanted["application"])
        _require_no_wider(token_of(request), wanted["role"], application)
        row, text = issue_token(
            user=request.user,  # type: ignore[arg-type]
            name=wanted["name"],
            role=wanted["role"],
            application=application,
            expires_at=wanted["expires_at"],
            now=timezone.now(),
        )
        row.token = text  # type: ignore[attr-defined]
        return self.shown(request, row)


class TokenView(NounView):
    verbs = {
        "GET": Verb(summary="One token of the caller's", answer=TokenSerializer),
        "DELETE": Verb(summary="Revoke a token", status=204),
    }

    def get(self, request: Request, token: int) -> Response:
        return self.shown(request, self._found(request, token))

    def delete(self, request: Request, token: int) -> Response:
        revoke_token(token=self._found(request, token), actor=self.actor(request), now=timezone.now())
        return Response(status=204)

    def _found(self, request: Request, token: int) -> ApiToken:
        row = ApiToken.objects.within(token_of(request)).filter(pk=token).first()
        if row is None:
            raise errors.NotFound(f"expected the id of a token of {self.actor(request)}, got {token}", field="token")
        return row


def _application(slug: str | None) -> Application | None:
    if slug is None:
        return None
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise errors.Invalid(f"expected the name of an application, got {slug!r}", field="application")
    return application


def _require_no_wider(own: ApiToken, role: Role, application: Application | None) -> None:
    if role > own.role:
        raise errors.NotAllowed(f"expected a role up to {Role(own.role).label}, as this token has, got {role.label}")
    if own.application_id is not None and (application is None or application.pk != own.application_id):
        raise errors.NotAllowed(f"expected a token for {own.application}, as this one is, got {application or 'all'}")
