"""The settings of the programs under test: lost work is noticed in seconds, so that a test need not wait a minute.

Not in too few: a worker says that it is alive every second, and one that a busy machine keeps waiting is not lost.
"""

from datetime import timedelta

from deploy.settings import *  # noqa: F403

AEROGRAM_JOB_SILENCE_SECONDS = 10
AEROGRAM_JOB_REQUEUE_SECONDS = 5
CELERY_BEAT_SCHEDULE = {
    "sweep-lost-jobs": {"task": "registry.tasks.sweep_lost_jobs", "schedule": timedelta(seconds=1)},
    "settle-firebase-models": {
        "task": "distribution.tasks.settle_firebase_models",
        "schedule": timedelta(seconds=1),
    },
    "publish-pending": {"task": "distribution.tasks.publish_pending", "schedule": timedelta(seconds=1)},
}
