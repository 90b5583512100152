"""Rules of a channel: who must approve, what may not be skipped, which units are pinned, which devices are tests."""

from django.db import models
from django.db.models.expressions import Value

from registry.models import Channel, ModelVersion, RegisteredModel
from registry.models.applications import RowVersionField


class ChannelSettings(models.Model):
    """How many other people must approve. A channel without a row has these defaults."""

    channel = models.OneToOneField(Channel, models.CASCADE, related_name="settings")
    approvals_required = models.PositiveSmallIntegerField(default=0)
    lift_approvals_required = models.PositiveSmallIntegerField(default=1)
    row_version = RowVersionField()

    class Meta:
        verbose_name_plural = "channel settings"

    def __str__(self) -> str:
        return f"settings of {self.channel}"


class ReleaseRequest(models.Model):
    """A release, or the lifting of a kill switch, that waits for approval or for its time.

    `edition` counts edits; an approval is of one edition, so that an edit voids it.
    """

    class Action(models.TextChoices):
        PUBLISH = "publish"
        LIFT_KILL_SWITCH = "lift_kill_switch"

    class State(models.TextChoices):
        WAITING = "waiting"  # for approval
        SCHEDULED = "scheduled"  # approved, for its time
        DONE = "done"
        CANCELLED = "cancelled"
        FAILED = "failed"  # it could not be done when its time came; `outcome` says why

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="release_requests")
    action = models.CharField(max_length=20, choices=Action.choices)
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="+")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+", null=True, blank=True)
    reason = models.TextField(blank=True)
    publish_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=20, choices=State.choices, default=State.WAITING)
    edition = models.PositiveIntegerField(default=1)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    edited_by = models.CharField(max_length=150, blank=True)
    editors = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    release = models.ForeignKey("distribution.Release", models.PROTECT, related_name="+", null=True, blank=True)
    outcome = models.TextField(blank=True)
    row_version = RowVersionField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        what = self.version if self.action == self.Action.PUBLISH else f"lift the kill switch of {self.model}"
        return f"request {self.pk}: {what} on {self.channel}"

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.WAITING, self.State.SCHEDULED)

    @property
    def authors(self) -> set[str]:
        """Whoever ever had a hand in what it says; none of them may approve it."""
        return {self.requested_by, self.edited_by, *self.editors} - {""}

    def approvers(self) -> list[str]:
        """Of the present edition, first first."""
        return list(self.approvals.filter(edition=self.edition).values_list("approved_by", flat=True))


class Approval(models.Model):
    release_request = models.ForeignKey(ReleaseRequest, models.CASCADE, related_name="approvals")
    edition = models.PositiveIntegerField()
    approved_by = models.CharField(max_length=150)
    approved_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["release_request", "edition", "approved_by"], name="one_approval_per_person_and_edition"
            )
        ]

    def __str__(self) -> str:
        return f"{self.approved_by}: {self.release_request}"


class DeliveryRules(models.Model):
    """`floors`: numbers of versions of the model that devices of the channel may not skip, rising."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="delivery_rules")
    model = models.ForeignKey(RegisteredModel, models.CASCADE, related_name="delivery_rules")
    floors = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    row_version = RowVersionField()

    class Meta:
        verbose_name_plural = "delivery rules"
        constraints = [
            models.UniqueConstraint(fields=["channel", "model"], name="delivery_rules_per_channel_and_model")
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.channel}"


class TestDevice(models.Model):
    """A device known by name. `unit_key` is SHA-256(salt:unit), as in catalogs: the unit itself is never stored.

    Until it has enrolled, it is an invitation: a token that works once, of which the SHA-256 is kept.
    """

    __test__ = False  # no case for pytest

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="test_devices")
    name = models.CharField(max_length=100)
    token_sha256 = models.CharField(max_length=64, unique=True)
    invited_by = models.CharField(max_length=150)
    invited_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    unit_key = models.CharField(max_length=64, blank=True, db_index=True)
    enrolled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "name"], name="test_device_name_per_channel")]

    def __str__(self) -> str:
        return f"{self.name} on {self.channel}"


class Pin(models.Model):
    """One unit that gets one version of a model, whatever is released. Never edited: removed, and made again."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="pins")
    model = models.ForeignKey(RegisteredModel, models.CASCADE, related_name="pins")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    unit_key = models.CharField(max_length=64)
    label = models.CharField(max_length=100, blank=True)
    pinned_by = models.CharField(max_length=150)
    pinned_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "model", "unit_key"], name="one_pin_per_unit")]

    def __str__(self) -> str:
        return f"{self.label or self.unit_key[:12]}: {self.version} on {self.channel}"
