"""Who may do what in an application."""

from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from registry import errors
from registry.models import Application, AuditEntry, Membership, Role


def grant(*, application: Application, user: User, role: Role, actor: str, now: datetime) -> Membership:
    """Give a user a role in an application, in place of any other."""
    with transaction.atomic():
        membership, _ = Membership.objects.update_or_create(application=application, user=user, defaults={"role": role})
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="grant",
            subject=user.get_username(),
            application=application,
            after={"role": role.label},
        )
    return membership


def revoke(*, membership: Membership, actor: str, now: datetime) -> None:
    """Take a user's role in an application away."""
    with transaction.atomic():
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="revoke",
            subject=membership.user.get_username(),
            application=membership.application,
            before={"role": Role(membership.role).label},
        )
        membership.delete()


def require_role(user: User | AnonymousUser, application: Application, role: Role) -> None:
    """Raises `NotAllowed` unless the user holds `role` or a higher one there."""
    if user.is_superuser:
        return
    memberships = Membership.objects.filter(application=application, user_id=user.pk or 0)
    held = memberships.values_list("role", flat=True).first()
    if held is None or held < role:
        got = Role(held).label if held is not None else "no role"
        raise errors.NotAllowed(f"expected the role {role.label} in {application}, got {got}")
