"""The handwritten digits that ship with scikit-learn: 1,797 scans of 8×8, 16 grey levels.

Enlarged to 32×32 by repeating pixels, scaled to 0..1. 450 are held out, the same ones every time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 450
LABELS = [str(digit) for digit in range(10)]
ENLARGE = 4
GREY_LEVELS = 16.0
SPLIT_SEED = 20261122


@dataclass(frozen=True)
class Digits:
    """`images`: float32 (N, 32, 32, 1) in 0..1, `labels`: int64 (N,) in 0..9."""

    images: NDArray[np.float32]
    labels: NDArray[Any]

    def save_evaluation_set(self, path: Path) -> None:
        np.savez(path, image=self.images, labels=self.labels)


def load() -> tuple[Digits, Digits]:
    """(for training, held out)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - comes with the extra `dev`

    scans = load_digits()
    small = scans.images.astype(np.float32) / np.float32(GREY_LEVELS)
    images = small.repeat(ENLARGE, axis=1).repeat(ENLARGE, axis=2)[..., np.newaxis]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    images, labels = images[order], scans.target[order]
    return Digits(images[HELD_OUT:], labels[HELD_OUT:]), Digits(images[:HELD_OUT], labels[:HELD_OUT])
