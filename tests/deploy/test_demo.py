"""The parts of the demonstration that have rules of their own. The whole of it is `make demo`."""

import struct

import numpy as np
import pytest

from deploy.demo import digits
from deploy.demo.pictures import SIZE, read_grey_bitmap


def bitmap(pixels, *, depth=8, bottom_up=True):
    height, width = pixels.shape
    rows = pixels[::-1] if bottom_up else pixels
    header = struct.pack("<2sIIIIiiHH", b"BM", 0, 0, 54, 40, width, height if bottom_up else -height, 1, depth)
    return header.ljust(54, b"\0") + rows.tobytes()


@pytest.mark.parametrize("bottom_up", [True, False])
def test_a_bitmap_is_read_top_row_first(tmp_path, bottom_up):
    pixels = np.arange(SIZE * SIZE, dtype=np.uint32).astype(np.uint8).reshape(SIZE, SIZE)
    path = tmp_path / "picture.bmp"
    path.write_bytes(bitmap(pixels, bottom_up=bottom_up))
    assert np.array_equal(read_grey_bitmap(path), pixels)


def test_another_kind_of_bitmap_is_refused(tmp_path):
    path = tmp_path / "picture.bmp"
    path.write_bytes(bitmap(np.zeros((SIZE, SIZE), np.uint8), depth=24))
    with pytest.raises(ValueError, match="expected an 8-bit bitmap of 96×96, got 96×96, 24 bits"):
        read_grey_bitmap(path)


@pytest.mark.light
def test_the_held_out_digits_are_the_same_every_time_and_none_is_trained_on():
    training, held_out = digits.load()
    assert (training.images.shape, held_out.images.shape) == ((1347, 32, 32, 1), (450, 32, 32, 1))
    assert (float(training.images.min()), float(training.images.max())) == (0.0, 1.0)
    again = digits.load()[1]
    assert np.array_equal(held_out.images, again.images)
    assert np.array_equal(held_out.labels, again.labels)
