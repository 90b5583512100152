"""Work that one worker at a time holds for as long as it gives signs of life."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

from django.db import models

QUEUED, RUNNING = "queued", "running"
Row = TypeVar("Row", bound=models.Model)


class LeasedQuerySet(models.QuerySet[Row]):
    def silent_since(self, moment: datetime) -> Self:
        """Running, but nobody has said so since `moment`."""
        return self.filter(state=RUNNING, heartbeat_at__lt=moment)

    def unclaimed_since(self, moment: datetime) -> Self:
        """Queued, but no worker has taken it since `moment`: its message may be lost."""
        return self.filter(state=QUEUED, queued_at__lt=moment)


class Leased(models.Model):
    """Work that one worker at a time may do. The row is the truth; a queue message only says where to look.

    A worker owns the row while `lease` is its own. Whoever finds the lease gone has lost the work and must stop.
    """

    MAX_ATTEMPTS = 3

    state: Any
    attempts = models.PositiveSmallIntegerField(default=0)
    lease = models.UUIDField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any]

    class Meta:
        abstract = True

    def claim(self, now: datetime) -> bool:
        """Take what is queued. False when somebody else has it, or it is done."""
        lease = uuid.uuid4()
        taken = (
            type(self)
            .objects.filter(pk=self.pk, state=QUEUED)
            .update(state=RUNNING, lease=lease, attempts=models.F("attempts") + 1, started_at=now, heartbeat_at=now)
        )
        self.refresh_from_db()
        return bool(taken) and self.lease == lease

    def beat(self, now: datetime, **told: Any) -> bool:
        """Say that the work goes on, and how far it is. False when the lease is gone."""
        return bool(self._mine().update(heartbeat_at=now, **told))

    def end(self, *, state: str, now: datetime, **outcome: Any) -> bool:
        """Close the row. False when the lease is gone; then nothing was written."""
        return bool(self._mine().update(state=state, finished_at=now, lease=None, **outcome))

    def give_back(self, now: datetime) -> bool:
        """After its worker was lost: queue it again, or close it when it has had its attempts.

        True when it was queued again. Conditional on the lease, so that a worker that came back keeps it.
        """
        if self.attempts < self.MAX_ATTEMPTS:
            return bool(self._mine().update(state=QUEUED, lease=None, queued_at=now))
        detail = f"the worker running this job was lost {self.attempts} times; expected it to finish within that"
        self.end(now=now, **self.as_lost(detail))
        return False

    def as_lost(self, detail: str) -> Mapping[str, Any]:
        """The state and the columns of a row whose workers were lost too often."""
        raise NotImplementedError

    def _mine(self) -> Any:
        return type(self).objects.filter(pk=self.pk, state=RUNNING, lease=self.lease)
