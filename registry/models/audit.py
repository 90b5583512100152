"""The chained log of everything that was done, and requests to publish what follows from it."""

import hashlib
import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, models

from registry.models.applications import Application

AUDIT_LOCK = 0x4165726F41756469  # "AeroAudi": one writer at a time, or two entries would follow the same one


class AuditEntry(models.Model):
    """One line of the append-only log of everything people and guardrails did. A trigger refuses changes.

    `entry_hash` = SHA-256 over the previous entry's hash and this entry's canonical JSON, so that a line cannot be
    taken out or altered without breaking every later one.
    """

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    verb = models.CharField(max_length=63)
    application = models.CharField(max_length=63, blank=True)
    subject = models.CharField(max_length=255)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.TextField(blank=True)
    previous_hash = models.CharField(max_length=64)
    entry_hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.verb} {self.subject}"

    @classmethod
    def record(
        cls,
        *,
        now: datetime,
        actor: str,
        verb: str,
        subject: str,
        application: Application | None = None,
        before: Any = None,
        after: Any = None,
        reason: str = "",
    ) -> "AuditEntry":
        """Append one entry. Call inside the transaction of the change it tells of, so that both stand or neither."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
        last = cls.objects.order_by("id").last()
        entry = cls(
            at=now,
            actor=actor,
            verb=verb,
            application=application.slug if application else "",
            subject=subject,
            before=before,
            after=after,
            reason=reason,
            previous_hash=last.entry_hash if last else "0" * 64,
        )
        entry.entry_hash = entry.computed_hash()
        entry.save(force_insert=True)
        return entry

    def computed_hash(self) -> str:
        fields = ("actor", "verb", "application", "subject", "before", "after", "reason", "previous_hash")
        told = {name: getattr(self, name) for name in fields} | {"at": self.at.isoformat()}
        stored = json.loads(json.dumps(told), parse_float=_as_stored)
        return hashlib.sha256(json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def first_broken(cls) -> "AuditEntry | None":
        """The earliest entry that does not follow from the one before it, or None when the chain holds."""
        previous_hash = "0" * 64
        for entry in cls.objects.order_by("id").iterator():
            if entry.previous_hash != previous_hash or entry.entry_hash != entry.computed_hash():
                return entry
            previous_hash = entry.entry_hash
        return None


def _as_stored(number: str) -> float:
    """As jsonb gives it back: whole from 1e16 on, no sign of zero. A hash over anything else is not found again."""
    return int(Decimal(number)) if "e+" in number else float(number) + 0.0


class PublishRequest(models.Model):
    """Something that devices should see has changed. Written in the transaction of the change, consumed by publishing.

    It carries no content: publishing compiles whatever the rows say when it runs, so a request can be late or double
    without harm.
    """

    application = models.ForeignKey(Application, models.CASCADE, related_name="publish_requests")
    reason = models.CharField(max_length=200)
    requested_at = models.DateTimeField()
    consumed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["application"], name="publish_request_pending", condition=models.Q(consumed_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.application}: {self.reason}"
