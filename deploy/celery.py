"""The Celery application: queues, delivery guarantees and the periodic tasks."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")

app = Celery("aerogram")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
