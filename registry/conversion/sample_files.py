"""Pictures and sounds of an evaluation set as arrays. Only a worker imports this: decoders are a large surface."""

import io
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from registry.conversion.evaluation_set import EvaluationSetError
from registry.inspection.sample_set import MAX_SAMPLE_BYTES, MAX_SIDE, ImageInput, Sample, SampleSet, SoundInput

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

# Of all that Pillow knows, which includes interpreters of page descriptions.
FORMATS = ("PNG", "BMP", "DIB", "JPEG")
MODES = {"grayscale": "L", "rgb": "RGB"}
INT16_SCALE = 32_768
SAMPLE_WIDTH = 2


def decoded_samples(path: Path, found: SampleSet, samples: Sequence[Sample]) -> Array:
    """(samples, …) in the type the document names. Raises EvaluationSetError with the file at fault."""
    with zipfile.ZipFile(path) as archive:
        rows = [_decoded(archive, found, sample.file) for sample in samples]
    return np.stack(rows)


def _decoded(archive: zipfile.ZipFile, found: SampleSet, file: str) -> Array:
    with archive.open(found.folder + file) as stream:
        data = stream.read(MAX_SAMPLE_BYTES + 1)
    try:
        if isinstance(found.input, ImageInput):
            return _typed(picture(data, found.input), found.input.dtype)
        return _typed(sound(data, found.input), found.input.dtype)
    except (OSError, ValueError, SyntaxError, EOFError, wave.Error, Image.DecompressionBombError) as error:
        raise EvaluationSetError(f"{file}: {error}"[:500]) from error


def picture(data: bytes, declared: ImageInput) -> Floats:
    """Pixels 0..255, resized to the input's size (bilinear over the pixels that fall into one), normalised."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if max(opened.size) > MAX_SIDE:
            raise ValueError(f"expected at most {MAX_SIDE} pixels a side; got {opened.size}")
        image = opened.convert(MODES[declared.color])
    if image.size != (declared.width, declared.height):
        image = image.resize((declared.width, declared.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(declared.height, declared.width, -1)
    normalised = _normalised(pixels, declared)
    return normalised.transpose(2, 0, 1) if declared.layout == "channels_first" else normalised


def sound(data: bytes, declared: SoundInput) -> Floats:
    """One channel of 16-bit samples as -1..1, cut or filled with silence at its end, normalised."""
    with wave.open(io.BytesIO(data)) as opened:
        got = opened.getnchannels(), opened.getsampwidth(), opened.getframerate()
        if got != (1, SAMPLE_WIDTH, declared.rate):
            expected = f"expected 1 channel of {8 * SAMPLE_WIDTH} bits at {declared.rate} Hz"
            raise ValueError(f"{expected}; got {got[0]} of {8 * got[1]} bits at {got[2]} Hz")
        frames = np.frombuffer(opened.readframes(declared.samples), "<i2")
    filled = np.zeros(declared.samples, np.float32)
    filled[: len(frames)] = frames / np.float32(INT16_SCALE)
    return _normalised(filled, declared)


def _normalised(values: Floats, declared: ImageInput | SoundInput) -> Floats:
    """By the last axis: of a picture its channels."""
    mean, std = (np.asarray(given, np.float32) for given in (declared.mean, declared.std))
    return np.asarray((values - mean) / std, np.float32)


def _typed(values: Floats, dtype: str) -> Array:
    """Integer types are rounded to nearest and clipped, so that 0..255 less 128 is an int8 pixel."""
    if dtype == "float32":
        return values.astype(np.float32)
    bounds = np.iinfo(dtype)
    return np.clip(np.round(values), bounds.min, bounds.max).astype(dtype)
