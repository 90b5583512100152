"""Whether any process of a job is left, seen from outside of its namespaces."""

import os
import select
from pathlib import Path
from typing import Self


class Lifeline:
    """A pipe that all processes of a job hold open: their numbers mean nothing outside their namespace."""

    def __init__(self, output: Path) -> None:
        output.mkdir(exist_ok=True)
        os.mkfifo(output / "alive")
        self.descriptor = os.open(output / "alive", os.O_RDONLY | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def read(self, seconds: float) -> bytes | None:
        """What was said, nothing when all who could are gone, None while they are silent."""
        return os.read(self.descriptor, 100) if select.select([self.descriptor], [], [], seconds)[0] else None
