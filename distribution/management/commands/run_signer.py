import logging
import signal
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.utils import timezone

from distribution import tasks
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import sign_pending
from registry.errors import DomainError
from registry.models import Application
from registry.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.5


class Command(BaseCommand):
    help = "The publisher: signs root and targets for what was released. Give its key folder to no other process."

    def handle(self, *_arguments: Any, **_options: Any) -> None:
        if not settings.AEROGRAM_PUBLISHER_KEYS_DIR:
            raise CommandError("AEROGRAM_PUBLISHER_KEYS_DIR: expected the publisher's key folder, got nothing")
        keys = KeyFolder(Path(settings.AEROGRAM_PUBLISHER_KEYS_DIR))
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.wait(LOOK_EVERY_SECONDS):
            sign_all(keys)


def sign_all(keys: KeyFolder) -> None:
    """One look at every application. Trouble with one, or with the database, is logged and tried again."""
    try:
        close_old_connections()
        for application in Application.objects.all():
            _sign(application, keys)
    except DatabaseError as error:
        logger.warning("database away, trying again: %s", error)


def _sign(application: Application, keys: KeyFolder) -> None:
    try:
        signed = sign_pending(application=application, keys=keys, now=timezone.now())
    except DomainError:
        logger.exception("not signed: application=%s", application.slug)
        return
    if signed:
        enqueue_on_commit(tasks.publish_application, application.pk, queue="publish")
