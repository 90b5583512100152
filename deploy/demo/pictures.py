"""Two pictures, one with a person, for `person_detect.tflite`: 96×96 grey, int8."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.demo.devices import Phone

PICTURES = {"person.bmp": "person", "no_person.bmp": "no person"}
LABELS = ["no person", "person"]
SIZE = 96
GREY_BITS = 8


def person_detect_folder() -> Path | None:
    """The folder of real models beside the checkout, if it is there."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
    return folder if (folder / "person_detect.tflite").is_file() else None


def read_grey_bitmap(path: Path) -> NDArray[np.uint8]:
    """An uncompressed 8-bit Windows bitmap as (height, width), top row first. Raises ValueError."""
    content = path.read_bytes()
    offset, width, height = (int.from_bytes(content[at : at + 4], "little", signed=True) for at in (10, 18, 22))
    depth = int.from_bytes(content[28:30], "little")
    if content[:2] != b"BM" or depth != GREY_BITS or (width, abs(height)) != (SIZE, SIZE):
        raise ValueError(f"{path.name}: expected an 8-bit bitmap of {SIZE}×{SIZE}, got {width}×{height}, {depth} bits")
    stride = (width + 3) // 4 * 4
    rows = np.frombuffer(content, np.uint8, stride * abs(height), offset).reshape(abs(height), stride)[:, :width]
    return rows[::-1] if height > 0 else rows


def classify_pictures(phone: Phone, folder: Path, input_name: str) -> Iterator[tuple[str, str, float]]:
    """(file name, label, score 0..1) of each picture, by the model active on the phone."""
    for name in PICTURES:
        # The bytes are the model's int8 input as they stand, as in the test these pictures come from: one of them is
        # stored shifted by 128, so that shifting both would show the model a solarised person.
        image = read_grey_bitmap(folder / name).view(np.int8).reshape(1, SIZE, SIZE, 1)
        with phone.client.open("person-detect") as active:
            scores = next(iter(active.run({input_name: image}).values()))[0]
        best = int(np.argmax(scores))
        yield name, LABELS[best], float(scores[best])
