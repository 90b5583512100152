"""Units counted by phase, arm, class and day; always from the exposures anew, so that nothing is lost or doubled."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import log
from typing import Any

from django.db import connection, transaction

from experiments.funnel import ACTIVATED, COMPLETE, DEADLINE, DEADLINE_AFTER_ACTIVATION, FUNNEL, OFFERED
from experiments.models import Phase

# The skew of a device's clock is known to a second or so, anew for each batch.
CLOCK_ERROR = timedelta(minutes=1)
_RANKS = range(len(FUNNEL))
_REACHED = ", ".join(f"count(*) FILTER (WHERE is_assigned AND reached >= {rank})" for rank in _RANKS)
_FAILED = ", ".join(f"count(*) FILTER (WHERE is_assigned AND failed = {rank} AND failed > reached)" for rank in _RANKS)
# The same as experiments.funnel.lost_before, of units that did not go on in a later phase.
_LOST = ", ".join(f"count(*) FILTER (WHERE is_assigned AND lost = {rank})" for rank in _RANKS)
_COUNT = f"""
INSERT INTO experiments_metricrollup (
    phase_id, arm, device_class, day, units, reached, failed, lost, crashed, load_failed, fell_back, integrity,
    latency_units, latency_total, latency_squares, paired_units, paired_total, paired_squares, before_total,
    before_squares, products, slow, heard_at
)
SELECT phase_id, arm, device_class, day, count(*) FILTER (WHERE is_assigned),
    ARRAY[{_REACHED}], ARRAY[{_FAILED}], ARRAY[{_LOST}],
    count(*) FILTER (WHERE is_assigned AND crashed_at >= counts_from),
    count(*) FILTER (WHERE is_assigned AND load_failed_at >= counts_from),
    count(*) FILTER (WHERE is_assigned AND fell_back_at >= counts_from),
    count(*) FILTER (WHERE integrity_at IS NOT NULL),
    count(log_p95) FILTER (WHERE is_assigned), coalesce(sum(log_p95) FILTER (WHERE is_assigned), 0),
    coalesce(sum(log_p95 * log_p95) FILTER (WHERE is_assigned), 0),
    count(*) FILTER (WHERE is_paired), coalesce(sum(log_p95) FILTER (WHERE is_paired), 0),
    coalesce(sum(log_p95 * log_p95) FILTER (WHERE is_paired), 0),
    coalesce(sum(before_log_p95) FILTER (WHERE is_paired), 0),
    coalesce(sum(before_log_p95 * before_log_p95) FILTER (WHERE is_paired), 0),
    coalesce(sum(log_p95 * before_log_p95) FILTER (WHERE is_paired), 0),
    count(*) FILTER (WHERE is_assigned AND log_p95 > %(log_slo)s), max(heard_at)
FROM (
    SELECT *, assigned_at IS NOT NULL AS is_assigned, assigned_at - %(clock)s AS counts_from,
        assigned_at IS NOT NULL AND log_p95 IS NOT NULL AND before_log_p95 IS NOT NULL AS is_paired,
        CASE WHEN reached BETWEEN {OFFERED} AND {COMPLETE - 1} AND failed <= reached AND %(now)s - progressed_at >
            CASE WHEN reached = {ACTIVATED} THEN %(long)s ELSE %(short)s END
        THEN CASE WHEN EXISTS (
            SELECT FROM experiments_exposure AS later WHERE later.unit = known.unit AND later.phase_id = ANY(%(later)s)
                AND greatest(later.reached, later.failed) > known.reached
        ) THEN -1 ELSE reached + 1 END ELSE -1 END AS lost
    FROM experiments_exposure AS known WHERE phase_id = %(phase)s
    OFFSET 0  -- or PostgreSQL asks whether a silent unit went on once for each stage of the funnel
) AS exposure
GROUP BY phase_id, arm, device_class, day
"""  # noqa: S608  # constants


def roll_up(phase: Phase, now: datetime, *, slo_ms: float) -> None:
    """Count the phase's units as of `now`: who is silent too long then is lost.

    Not who went on in a later phase, under way from one stage to the next when the step ended.
    """
    later = Phase.objects.filter(experiment=phase.experiment_id, number__gt=phase.number)
    values: dict[str, Any] = {
        "phase": phase.pk,
        "now": now,
        "log_slo": log(slo_ms * 1000),
        "clock": CLOCK_ERROR,
        "short": DEADLINE,
        "long": DEADLINE_AFTER_ACTIVATION,
        "later": list(later.values_list("pk", flat=True)),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        # Two that count one phase at once would both insert its cells.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('experiments_metricrollup'), %s)", [phase.pk])
        cursor.execute("DELETE FROM experiments_metricrollup WHERE phase_id = %s", [phase.pk])
        cursor.execute(_COUNT, values)
