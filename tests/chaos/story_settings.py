"""As the other chaos tests', with guardrails and plans that are looked at every two seconds instead of each minute."""

from datetime import timedelta

from tests.chaos.settings import *  # noqa: F403
from tests.chaos.settings import CELERY_BEAT_SCHEDULE as _SCHEDULE

_OFTEN = timedelta(seconds=2)
CELERY_BEAT_SCHEDULE = {
    **_SCHEDULE,
    "look-at-experiments": {"task": "experiments.tasks.look_at_experiments", "schedule": _OFTEN},
    "perform-due-experiments": {"task": "experiments.tasks.perform_due_experiments", "schedule": _OFTEN},
}
