"""Lines of events into their tables: COPY into a staging table, and from there what is not known yet."""

from __future__ import annotations

import io
from collections.abc import Sequence

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from experiments.ingest.rows import COLUMNS, MARKS, Lines

_STAGING = f"""
CREATE TEMPORARY TABLE IF NOT EXISTS arriving (
    event_id uuid NOT NULL, application varchar(63) NOT NULL, unit varchar(200) NOT NULL,
    received_at timestamptz NOT NULL, at timestamptz NOT NULL, stage varchar(20) NOT NULL, outcome varchar(20) NOT NULL,
    model varchar(63) NOT NULL, version integer CHECK (version >= 0), variant varchar(63) NOT NULL,
    duration_ms bigint CHECK (duration_ms >= 0), size_bytes bigint CHECK (size_bytes >= 0),
    error varchar(200) NOT NULL, histogram bigint[], profile jsonb NOT NULL, channel varchar(63) NOT NULL,
    phase_id bigint, arm varchar(63) NOT NULL, device_class varchar(63) NOT NULL,
    {", ".join(f"{name} {'boolean' if name.startswith('is_') else 'smallint'} NOT NULL" for name in MARKS)}
) ON COMMIT DELETE ROWS
"""
_COPY = f"COPY arriving ({', '.join((*COLUMNS, *MARKS))}) FROM STDIN"
_EVENTS = ", ".join(COLUMNS)
# Without ON CONFLICT, which would cost as much again for every event to spare the few batches that come twice.
_REMEMBER = "INSERT INTO experiments_seenevent (event_id, received_at) SELECT event_id, received_at FROM arriving"
_LEAVE_OUT_KNOWN = "DELETE FROM arriving USING experiments_seenevent seen WHERE seen.event_id = arriving.event_id"
_KEEP = f"INSERT INTO experiments_event ({_EVENTS}) SELECT {_EVENTS} FROM arriving"  # noqa: S608  # constants
_EXPOSE = """
WITH outcome AS (
    SELECT phase_id, unit, min(arm) AS arm, min(device_class) AS device_class,
        coalesce(min(profile ->> 'os'), '') AS os, coalesce(min(profile ->> 'app_version'), '') AS app_version,
        (min(at) AT TIME ZONE 'UTC')::date AS day,
        min(at) FILTER (WHERE is_assigned) AS assigned_at,
        max(reached) AS reached, max(at) FILTER (WHERE reached >= 0) AS progressed_at, max(failed) AS failed,
        max(at) FILTER (WHERE is_crash) AS crashed_at, max(at) FILTER (WHERE is_load_failure) AS load_failed_at,
        max(at) FILTER (WHERE is_fallback) AS fell_back_at, min(at) FILTER (WHERE is_integrity) AS integrity_at,
        max(at) AS heard_at,
        experiments_sum_counts(histogram) FILTER (WHERE histogram IS NOT NULL AND stage = 'inference') AS histogram
    FROM arriving WHERE phase_id IS NOT NULL GROUP BY phase_id, unit
)
INSERT INTO experiments_exposure AS known (
    phase_id, unit, arm, device_class, os, app_version, day, assigned_at, reached, progressed_at, failed, crashed_at,
    load_failed_at, fell_back_at, integrity_at, heard_at, histogram, log_p95
)
SELECT phase_id, unit, arm, device_class, left(os, 63), left(app_version, 63), day, assigned_at, reached, progressed_at,
    failed, crashed_at, load_failed_at, fell_back_at, integrity_at, heard_at, coalesce(histogram, '{}'),
    experiments_log_p95(histogram)
FROM outcome
ON CONFLICT (phase_id, unit) DO UPDATE SET
    assigned_at = least(known.assigned_at, excluded.assigned_at),
    reached = greatest(known.reached, excluded.reached),
    progressed_at = greatest(known.progressed_at, excluded.progressed_at),
    failed = greatest(known.failed, excluded.failed),
    crashed_at = greatest(known.crashed_at, excluded.crashed_at),
    load_failed_at = greatest(known.load_failed_at, excluded.load_failed_at),
    fell_back_at = greatest(known.fell_back_at, excluded.fell_back_at),
    integrity_at = least(known.integrity_at, excluded.integrity_at),
    heard_at = greatest(known.heard_at, excluded.heard_at),
    histogram = CASE WHEN excluded.histogram = '{}' THEN known.histogram
        ELSE experiments_add_counts(known.histogram, excluded.histogram) END,
    log_p95 = CASE WHEN excluded.histogram = '{}' THEN known.log_p95
        ELSE experiments_log_p95(experiments_add_counts(known.histogram, excluded.histogram)) END
"""
# Rows of the table before it was partitioned, which an ingester of an earlier version may still fill.
_ADOPT = """
WITH moved AS (
    DELETE FROM experiments_deviceevent
    WHERE event_id IN (SELECT event_id FROM experiments_deviceevent LIMIT %s) RETURNING *
), fresh AS (
    INSERT INTO experiments_seenevent (event_id, received_at) SELECT event_id, received_at FROM moved
    ON CONFLICT DO NOTHING RETURNING event_id
), stored AS (
    INSERT INTO experiments_event (
        event_id, application, unit, received_at, at, stage, outcome, model, version, variant, duration_ms, size_bytes,
        error, histogram, profile, arm, device_class
    )
    SELECT event_id, application, unit, received_at, at, stage, outcome, model, version, variant, duration_ms,
        size_bytes, error, CASE WHEN jsonb_typeof(histogram) = 'array'
        THEN ARRAY(SELECT jsonb_array_elements_text(histogram)::bigint) END, profile, '', ''
    FROM moved JOIN fresh USING (event_id)
)
SELECT count(*) FROM moved
"""
ADOPTED_AT_ONCE = 10_000
ATTEMPTS = 5


def store(batches: Sequence[Lines], *, with_exposures: bool) -> None:
    """All events or none; ids that are stored already are passed over.

    Raises django.db.DataError on what fits nowhere, UnicodeEncodeError on what is no text.
    `with_exposures`: some event belongs to an arm, so that the outcomes of units are brought up to date as well.
    """
    text = _distinct(batches).encode()
    if not text:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_STAGING)
        with connection.wrap_database_errors:
            cursor.copy_expert(_COPY, io.BytesIO(text))
        _remember(cursor)
        cursor.execute(_KEEP)
        if with_exposures:
            cursor.execute(_EXPOSE)


def _remember(cursor: CursorWrapper) -> None:
    """Note the ids, and leave only events in the staging table whose ids were not known."""
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                cursor.execute(_REMEMBER)
        except IntegrityError:
            cursor.execute(_LEAVE_OUT_KNOWN)
        else:
            return
    # Not an IntegrityError: the events are in order, somebody else stores the same ones all the time.
    raise OperationalError(f"expected to be the only ingester, ids became known {ATTEMPTS} times while being stored")


def _distinct(batches: Sequence[Lines]) -> str:
    """One line for each id: it is told from those before, not from its twin in the same statement."""
    lines: dict[str, str] = {}
    for batch in batches:
        lines.update(zip(batch.ids, batch.lines, strict=True))
    return "".join(lines.values())


def adopt_earlier_events() -> int:
    """Move what stands in the table before partitions. Returns the number of rows; safe beside its old writer."""
    total = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_ADOPT, [ADOPTED_AT_ONCE])
            moved = int(cursor.fetchone()[0])
        total += moved
        if moved < ADOPTED_AT_ONCE:
            return total
