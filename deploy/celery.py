"""The Celery application: queues, delivery guarantees and the periodic tasks.

| queue | what runs there | workers |
|---|---|---|
| `convert` | traces, and reproductions of sources that need TensorFlow | one process for each 4 GiB of memory |
| `light` | adoptions of ready files, recipes | one process for each 2 GiB |
| `publish`, `default` | publishing, periodic tasks | small |

A message of `convert` or `light` only wakes a worker, which then takes the job of its queue with the highest priority
from the database. Prefetch is 1 and messages are acknowledged when their work is done, so that a killed worker's
message comes again; until it does, the sweep has long queued the silent job.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")

app = Celery("aerogram")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
