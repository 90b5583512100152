"""A user's own API tokens."""

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from registry import errors
from registry.models import ApiToken, Application, AuditEntry, Role

LONGEST_LIFE = timedelta(days=366)


def issue_token(
    *, user: User, name: str, role: Role, application: Application | None, expires_at: datetime, now: datetime
) -> tuple[ApiToken, str]:
    """A token of the user's own, and its text, which is shown this once. Raises `Invalid` for a life out of bounds."""
    if not now < expires_at <= now + LONGEST_LIFE:
        expected = f"an end within {LONGEST_LIFE.days} days from now"
        raise errors.Invalid(f"expected {expected}, got {expires_at.isoformat()}", field="expires_at")
    with transaction.atomic():
        row, text = ApiToken.issue(
            user=user, name=name, role=role, application=application, now=now, expires_at=expires_at
        )
        AuditEntry.record(
            now=now,
            actor=user.get_username(),
            verb="issue_token",
            subject=name,
            application=application,
            after={"id": row.pk, "role": role.label, "expires_at": expires_at.isoformat()},
        )
    return row, text


def revoke_token(*, token: ApiToken, actor: str, now: datetime) -> None:
    """The token is refused from now on."""
    with transaction.atomic():
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="revoke_token",
            subject=token.name,
            application=token.application,
            before={"id": token.pk, "role": Role(token.role).label},
        )
        token.delete()
