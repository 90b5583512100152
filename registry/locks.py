"""Locks of PostgreSQL that outlast a transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def session_lock(kind: int, number: int, *, waits: bool = True) -> Iterator[bool]:
    """Held by the database session, so that it falls with a process that dies. Both halves of its key are 32-bit.

    Yields whether it is held: False only where it `waits` for nobody and somebody else has it.
    """
    take = "SELECT true FROM pg_advisory_lock(%s, %s)" if waits else "SELECT pg_try_advisory_lock(%s, %s)"
    with connection.cursor() as cursor:
        cursor.execute(take, [kind, number])
        is_held = bool(cursor.fetchone()[0])
        try:
            yield is_held
        finally:
            if is_held:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [kind, number])
