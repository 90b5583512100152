"""What devices reported, what became of each unit, and what is counted of it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from experiments.models.phases import Phase


class DeviceEvent(models.Model):
    """One thing that happened on one device, in monthly partitions by `received_at` (`experiments.partitions`).

    The device made `event_id`; the same id counts once, which `SeenEvent` sees to: a unique key of a partitioned table
    would have to contain the partition's key. `phase` and `arm` are what the server drew itself; empty: no experiment.
    `channel` is the one that the device follows; empty: its SDK does not say.
    """

    event_id = models.UUIDField(primary_key=True)
    application = models.CharField(max_length=63)
    unit = models.CharField(max_length=200, blank=True)
    received_at = models.DateTimeField()
    at = models.DateTimeField()
    stage = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20)
    model = models.CharField(max_length=63)
    version = models.PositiveIntegerField(null=True)
    variant = models.CharField(max_length=63, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True)
    size_bytes = models.PositiveBigIntegerField(null=True)
    error = models.CharField(max_length=200, blank=True)
    histogram = ArrayField(models.PositiveBigIntegerField(), null=True)
    profile = models.JSONField(default=dict)
    channel = models.CharField(max_length=63, blank=True, default="", db_default="")
    phase = models.ForeignKey(
        Phase, models.DO_NOTHING, null=True, related_name="events", db_constraint=False, db_index=False
    )
    arm = models.CharField(max_length=63, blank=True)
    device_class = models.CharField(max_length=63, blank=True)

    class Meta:
        db_table = "experiments_event"
        indexes = [
            models.Index(fields=["application", "model", "received_at"], name="event_of_model_by_time"),
            models.Index(fields=["unit"], name="event_by_unit"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} {self.outcome} {self.model}:{self.version}"


class SeenEvent(models.Model):
    """The id of an event that was stored, remembered for 35 days: phones drop events older than 30."""

    event_id = models.UUIDField(primary_key=True)
    received_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.event_id)


class Exposure(models.Model):
    """What became of one unit in one phase. Written by the ingester alone, in the transaction that stores the events.

    `reached` and `failed` are ranks of `experiments.funnel`, -1: none. The day a unit is counted under is the one it
    was first heard of, so that the days of a phase add up. `crashed_at`, `load_failed_at` and `fell_back_at` are the
    last time: what was before `assigned_at` is not counted, since only the control's version ran then. `log_p95` is of
    µs, over all its inferences in the phase; `before_log_p95` the same before the experiment began, once it was looked
    for (`experiments.before_values`).
    """

    phase = models.ForeignKey(Phase, models.DO_NOTHING, related_name="exposures", db_constraint=False, db_index=False)
    unit = models.CharField(max_length=200)
    arm = models.CharField(max_length=63)
    device_class = models.CharField(max_length=63)
    os = models.CharField(max_length=63, blank=True)
    app_version = models.CharField(max_length=63, blank=True)
    day = models.DateField()
    assigned_at = models.DateTimeField(null=True)
    reached = models.SmallIntegerField(default=-1)
    progressed_at = models.DateTimeField(null=True)
    failed = models.SmallIntegerField(default=-1)
    crashed_at = models.DateTimeField(null=True)
    load_failed_at = models.DateTimeField(null=True)
    fell_back_at = models.DateTimeField(null=True)
    integrity_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField()
    histogram = ArrayField(models.BigIntegerField(), default=list)
    log_p95 = models.FloatField(null=True)
    before_log_p95 = models.FloatField(null=True)
    is_before_sought = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["phase", "unit"], name="exposure_once_per_phase_and_unit")]
        indexes = [
            models.Index(fields=["unit"], name="exposure_by_unit"),
            models.Index(fields=["phase"], condition=models.Q(is_before_sought=False), name="exposure_before_unsought"),
            models.Index(fields=["phase"], condition=models.Q(integrity_at__isnull=False), name="exposure_not_genuine"),
        ]

    def __str__(self) -> str:
        return f"{self.arm} of phase {self.phase_id}"


class MetricRollup(models.Model):
    """What is counted of the units of one phase, arm, device class and first day. No unit is named in it.

    `reached`, `failed` and `lost` count units by stage of `experiments.funnel`; all but `integrity` count only those
    that were assigned. `latency_*` sum the log p95 of µs over the units that have one, `slow` of them were above the
    policy's SLO. `paired_*` sum the same over the units that have a value from before the experiment too, `before_*`
    that value, and `products` what both multiply to.
    """

    phase = models.ForeignKey(Phase, models.CASCADE, related_name="rollups")
    arm = models.CharField(max_length=63)
    device_class = models.CharField(max_length=63)
    day = models.DateField()
    units = models.PositiveIntegerField(default=0)
    reached = ArrayField(models.PositiveIntegerField())
    failed = ArrayField(models.PositiveIntegerField())
    lost = ArrayField(models.PositiveIntegerField())
    crashed = models.PositiveIntegerField(default=0)
    load_failed = models.PositiveIntegerField(default=0)
    fell_back = models.PositiveIntegerField(default=0)
    integrity = models.PositiveIntegerField(default=0)
    latency_units = models.PositiveIntegerField(default=0)
    latency_total = models.FloatField(default=0)
    latency_squares = models.FloatField(default=0)
    paired_units = models.PositiveIntegerField(default=0, db_default=0)
    paired_total = models.FloatField(default=0, db_default=0)
    paired_squares = models.FloatField(default=0, db_default=0)
    before_total = models.FloatField(default=0, db_default=0)
    before_squares = models.FloatField(default=0, db_default=0)
    products = models.FloatField(default=0, db_default=0)
    slow = models.PositiveIntegerField(default=0)
    heard_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["phase", "day", "arm", "device_class"]
        constraints = [
            models.UniqueConstraint(fields=["phase", "arm", "device_class", "day"], name="rollup_once_per_cell")
        ]

    def __str__(self) -> str:
        return f"{self.units} units of {self.arm}, {self.device_class}, {self.day}"
