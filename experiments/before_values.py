"""What each unit measured before its experiment began: the spread between units that was there before, for CUPED.

One value a unit and experiment, whichever phase it is in: the log p95 over its inferences of the model, of any version,
in the batches received during WINDOW before the first phase opened. Whatever arrives later may know of the split.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection

from experiments.models import Phase

WINDOW = timedelta(days=14)
UNITS_AT_ONCE = 5_000
# Some ten seconds of a look, which has crashes to judge: what is left over waits for the next one.
BATCHES_A_LOOK = 10
# Units that the ingester is writing are passed over until the next look: whoever waits for no row blocks nobody.
_COLLECT = """
WITH wanted AS MATERIALIZED (
    SELECT id, unit FROM experiments_exposure
    WHERE phase_id = %(phase)s AND NOT is_before_sought LIMIT %(units)s FOR UPDATE SKIP LOCKED
), earlier AS (
    SELECT unit, max(known.before_log_p95) AS value
    FROM wanted JOIN experiments_exposure AS known USING (unit)
    WHERE known.phase_id = ANY(%(phases)s) AND known.is_before_sought GROUP BY unit
), measured AS (
    SELECT unit, experiments_log_p95(experiments_sum_counts(event.histogram)) AS value
    FROM wanted JOIN experiments_event AS event USING (unit)
    WHERE event.application = %(application)s AND event.model = %(model)s AND event.stage = 'inference'
        AND event.received_at >= %(first)s AND event.received_at < %(end)s AND event.histogram IS NOT NULL
        AND unit NOT IN (SELECT unit FROM earlier)
    GROUP BY unit
)
UPDATE experiments_exposure AS exposure
SET is_before_sought = true, before_log_p95 = coalesce(earlier.value, measured.value)
FROM wanted LEFT JOIN earlier USING (unit) LEFT JOIN measured USING (unit)
WHERE exposure.id = wanted.id
"""


def collect_before_values(phase: Phase) -> int:
    """Look once for the value of each unit of the phase, or of as many as a look has time for. Returns how many."""
    experiment = phase.experiment
    numbers = dict(experiment.phases.order_by("number").values_list("pk", "opened_at"))
    began = min(numbers.values())
    values: dict[str, Any] = {
        "phase": phase.pk,
        "phases": [number for number in numbers if number != phase.pk],
        "application": experiment.application.slug,
        "model": experiment.model.slug,
        "first": began - WINDOW,
        "end": began,
        "units": UNITS_AT_ONCE,
    }
    total = 0
    for _ in range(BATCHES_A_LOOK):
        with connection.cursor() as cursor:
            cursor.execute(_COLLECT, values)
            found = int(cursor.rowcount)
        total += found
        if found < UNITS_AT_ONCE:
            break
    return total
