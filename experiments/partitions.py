"""Monthly partitions of the events, made before they are needed and dropped when their time is over."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction

from experiments.models import Exposure, SeenEvent

logger = logging.getLogger(__name__)
TABLE = "experiments_event"
PREFIX = "experiments_event_p"
DEFAULT = "experiments_event_other"
MONTHS_AHEAD = 2
REMEMBERED = timedelta(days=35)
_LONGEST_MONTH = timedelta(days=31)


def month_of(moment: datetime) -> datetime:
    """The first instant of its month, UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(month: datetime) -> datetime:
    return month_of(month + _LONGEST_MONTH)


def name_of(month: datetime) -> str:
    return f"{PREFIX}{month:%Y%m}"


def partitions() -> list[str]:
    """Names of the monthly partitions, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = %s::regclass AND c.relname LIKE %s ORDER BY c.relname",
            [TABLE, f"{PREFIX}%"],
        )
        return [name for (name,) in cursor.fetchall()]


def make_ahead(now: datetime, months: int = MONTHS_AHEAD) -> list[str]:
    """The partitions of this month and the next ones that were missing; rows already there move in."""
    existing, made = set(partitions()), []
    month = month_of(now)
    for _ in range(months + 1):
        if name_of(month) not in existing:
            _make(month)
            made.append(name_of(month))
        month = month_after(month)
    return made


def _make(month: datetime) -> None:
    """Filled before it is attached: PostgreSQL refuses a partition whose rows stand in the default one."""
    name, first, end = name_of(month), month.isoformat(), month_after(month).isoformat()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [TABLE])
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is not None:
            return  # another process was faster
        # Whoever writes meanwhile waits, so that no row of the month slips into the default partition.
        cursor.execute(f"LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT} WHERE received_at >= %s AND received_at < %s RETURNING *) "  # noqa: S608  # names are ours
            f"INSERT INTO {name} SELECT * FROM moved",
            [first, end],
        )
        cursor.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)", [first, end])


def drop_older(than: datetime) -> list[str]:
    """Drop the partitions of which every event was received before `than`, and such rows of the default one."""
    last_kept = name_of(month_of(than))
    dropped = [name for name in partitions() if name < last_kept]
    with transaction.atomic(), connection.cursor() as cursor:
        for name in dropped:
            cursor.execute(f"DROP TABLE {name}")
        cursor.execute(f"DELETE FROM {DEFAULT} WHERE received_at < %s", [month_of(than)])  # noqa: S608  # a constant
    return dropped


def keep_tables(now: datetime, keep: timedelta) -> None:
    """What beat does: partitions ahead, old ones gone, ids forgotten after 35 days, units of long closed phases too."""
    made, dropped = make_ahead(now), drop_older(now - keep)
    forgotten, _ = SeenEvent.objects.filter(received_at__lt=now - REMEMBERED).delete()
    units, _ = Exposure.objects.filter(phase__closed_at__lt=now - keep).delete()
    if made or dropped or forgotten or units:
        logger.info("events: made=%s dropped=%s ids forgotten=%d units forgotten=%d", made, dropped, forgotten, units)
