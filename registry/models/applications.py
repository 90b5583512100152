"""Applications, who may touch them, their channels and their device classes."""

import hashlib
import secrets
from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from registry import device_classes

SLUG_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The same alphabet stands in URLs, file names of the signed tree and role names of TUF.
slug_validator = RegexValidator(
    rf"\A{SLUG_PATTERN}\Z",
    "expected 1 to 63 lower-case letters, digits or hyphens, with a letter or digit at both ends",
)


class SlugField(models.CharField):  # type: ignore[type-arg]
    def __init__(self, **options: object) -> None:
        super().__init__(**{"max_length": 63, "validators": [slug_validator], **options})  # type: ignore[arg-type]


class RowVersionField(models.PositiveIntegerField):  # type: ignore[type-arg]
    """How often the row was written. PostgreSQL counts (migration 0003), so that no writer can forget to.

    Read the row again after writing it: the number in memory is the one before.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**{"default": 1, "editable": False, **options})  # type: ignore[arg-type]


class Application(models.Model):
    """The app, and key space, whose devices ask for models."""

    slug = SlugField(unique=True)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    row_version = RowVersionField()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return str(self.slug)


class Role(models.IntegerChoices):
    """Each role may do what the ones below it may."""

    VIEWER = 10, "viewer"
    EDITOR = 20, "editor"
    RELEASER = 30, "releaser"
    ADMINISTRATOR = 40, "administrator"


class Membership(models.Model):
    application = models.ForeignKey(Application, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.PositiveSmallIntegerField(choices=Role.choices)
    row_version = RowVersionField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "user"], name="one_role_per_application")]

    def __str__(self) -> str:
        return f"{self.user}: {Role(self.role).label} of {self.application}"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def within(self, token: "ApiToken") -> Self:
        """The tokens of the same user that can do no more than this one."""
        found = self.filter(user=token.user_id, role__lte=token.role)
        return found.filter(application=token.application_id) if token.application_id else found


class ApiToken(models.Model):
    """A script's key to the REST API. Only its SHA-256 is kept: 256 random bits need no slow hash.

    Its scope is a ceiling: it can do what its user may, up to `role`, and in `application` alone if one is named.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    role = models.PositiveSmallIntegerField(choices=Role.choices, default=Role.ADMINISTRATOR)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", null=True, blank=True)
    token_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return self.name

    @property
    def is_unscoped(self) -> bool:
        return self.role == Role.ADMINISTRATOR and self.application_id is None

    def reaches(self, application: Application) -> bool:
        return self.application_id in (None, application.pk)

    @staticmethod
    def hash(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    @classmethod
    def issue(
        cls,
        *,
        user: object,
        name: str,
        now: datetime,
        expires_at: datetime,
        role: Role = Role.ADMINISTRATOR,
        application: Application | None = None,
    ) -> tuple[Self, str]:
        """A new row and the token itself, which is shown this once and never stored."""
        token = f"aero_{secrets.token_urlsafe(32)}"
        row = cls(user=user, name=name, role=role, application=application, created_at=now, expires_at=expires_at)
        row.token_sha256 = cls.hash(token)
        row.save(force_insert=True)
        return row, token


class IdempotencyKey(models.Model):
    """A creation that was done once, and its answer, so that the same request sent again is not done twice."""

    token = models.ForeignKey(ApiToken, models.CASCADE, related_name="idempotency_keys")
    key = models.CharField(max_length=255)
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    answer = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="idempotency_key_per_token")]

    def __str__(self) -> str:
        return self.key


class Channel(models.Model):
    """A named stream of releases that an app build follows."""

    application = models.ForeignKey(Application, models.CASCADE, related_name="channels")
    slug = SlugField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["application", "slug"], name="channel_slug_per_application")]

    def __str__(self) -> str:
        return f"{self.application.slug}/{self.slug}"


class DeviceClass(models.Model):
    """A named set of constraints on a device, and the variants to try for it, best first.

    Classes of an application are tried by rising `position`; the first whose selector matches decides.
    """

    application = models.ForeignKey(Application, models.CASCADE, related_name="device_classes")
    name = SlugField()
    position = models.PositiveIntegerField()
    selector = models.JSONField(default=dict, blank=True)
    variants = models.JSONField(default=list)
    delegate_order = models.JSONField(default=list, blank=True)
    row_version = RowVersionField()

    class Meta:
        ordering = ["position"]
        verbose_name_plural = "device classes"
        constraints = [
            models.UniqueConstraint(fields=["application", "name"], name="device_class_name_per_application"),
            models.UniqueConstraint(
                fields=["application", "position"],
                name="device_class_position_per_application",
                deferrable=models.Deferrable.DEFERRED,
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)

    def as_rule(self) -> device_classes.DeviceClass:
        return device_classes.DeviceClass(
            name=self.name,
            selector=device_classes.Selector.from_json(self.selector),
            variants=tuple(self.variants),
            delegate_order=tuple(self.delegate_order),
        )
