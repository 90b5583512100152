from datetime import datetime

from django.db import transaction

from registry.models import Application, AuditEntry, Membership, Role


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


def rename_application(*, application: Application, name: str, actor: str, now: datetime) -> None:
    """Change the name that people read; the slug, which devices ask by, stays for ever."""
    with transaction.atomic():
        before = Application.objects.select_for_update().get(pk=application.pk).name
        Application.objects.filter(pk=application.pk).update(name=name)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="rename_application",
            subject=application.slug,
            application=application,
            before={"name": before},
            after={"name": name},
        )
