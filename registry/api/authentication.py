"""Who calls, by the token in the request."""

from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from registry.models import ApiToken


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer aero_…`. Unknown and expired tokens get the same answer."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer":
            raise AuthenticationFailed(f"expected 'Authorization: Bearer <token>', got the scheme {scheme!r}")
        row = ApiToken.objects.select_related("user").filter(token_sha256=ApiToken.hash(token.strip())).first()
        if row is None or row.expires_at <= timezone.now() or not row.user.is_active:
            raise AuthenticationFailed("expected a valid token, got one that is unknown or expired")
        return row.user, row

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        return "Bearer"
