"""How soon the device plane serves a new revision. Only that it does is asserted; the figure goes into the output."""

import time

import pytest

from tests.chaos.stack import Stack, until

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]
PUBLISHES = 5


def seconds_until_served(stack: Stack, model: str, number: int) -> float:
    """From the moment timestamp.json was written to the first poll that is answered from it."""
    timestamp = stack.tree / "trust" / "timestamp.json"
    written = timestamp.stat().st_mtime_ns
    stack.server.publish("production", model, number, "how soon")
    until(lambda: timestamp.stat().st_mtime_ns != written, "the publisher to write timestamp.json", every_seconds=0.001)
    written = timestamp.stat().st_mtime_ns
    until(lambda: stack.polled_version(model) == number, f"{model}:{number} at devices", every_seconds=0.005)
    return time.time() - written / 1e9


def test_a_new_revision_is_served_soon_after_its_timestamp_is_written(stack, released, figures):
    current = stack.polled_version(released)
    numbers = [number for number in (1, 2) if number != current] + [current]
    taken = sorted(seconds_until_served(stack, released, numbers[turn % 2]) for turn in range(PUBLISHES))
    shown = ", ".join(f"{seconds:.2f}" for seconds in taken)
    figures(f"a revision is served after {shown} s of its timestamp being written; the aim is 2 s")
