import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.utils import timezone

from distribution import tasks
from distribution.trust.configured import publisher_keys
from distribution.trust.publisher import sign_pending
from distribution.trust.signers import Keys
from registry.errors import DomainError
from registry.models import Application
from registry.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.5


class Command(BaseCommand):
    help = "The publisher: signs targets for what was released. Give its keys to no other process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Sign what is to be signed, then end.")
        parser.add_argument(
            "--renew", action="store_true", help="The same, also what has not changed: for a later expiry."
        )

    def handle(self, *_arguments: Any, once: bool, renew: bool, **_options: Any) -> None:
        keys = publisher_keys()
        if keys is None:
            raise CommandError(
                "AEROGRAM_PUBLISHER_KEYS_DIR, AEROGRAM_SIGNERS: expected a key folder or signers, got neither"
            )
        rounds = Rounds(keys)
        if once or renew:
            rounds.sign_all(renew=renew)
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.wait(LOOK_EVERY_SECONDS):
            rounds.sign_all()


class Rounds:
    """Looks at every application again and again; trouble that stays is told once."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.told: dict[str, str] = {}

    def sign_all(self, *, renew: bool = False) -> None:
        """Trouble with one application, or with the database, is logged and tried again."""
        try:
            close_old_connections()
            for application in Application.objects.all():
                self._sign(application, renew=renew)
        except DatabaseError as error:
            logger.warning("database away, trying again: %s", error)

    def _sign(self, application: Application, *, renew: bool) -> None:
        try:
            signed = sign_pending(application=application, keys=self.keys, now=timezone.now(), renew=renew)
        except DomainError as error:
            if self.told.get(application.slug) != str(error):
                self.told[application.slug] = str(error)
                logger.exception("not signed: application=%s", application.slug)
            return
        self.told.pop(application.slug, None)
        if signed:
            enqueue_on_commit(tasks.publish_application, application.pk, queue="publish")
