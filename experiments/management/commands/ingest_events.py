import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from redis import Redis, RedisError

from experiments import ingest

logger = logging.getLogger(__name__)
TRY_AGAIN_SECONDS = 1.0


class Command(BaseCommand):
    help = "Moves accepted events from the event stream to PostgreSQL. Run one."

    def handle(self, *_arguments: Any, **_options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                close_old_connections()
                ingest.run(_connect, stop.is_set)
            except (RedisError, DatabaseError) as error:
                logger.warning("stream or database away, trying again: %s", error)
                connection.close()
                stop.wait(TRY_AGAIN_SECONDS)


def _connect() -> Redis:
    return Redis.from_url(settings.EVENT_STREAM_URL, socket_timeout=10, socket_connect_timeout=3)
