"""The HDF5 half of a `.keras` file, before Keras allocates what it declares."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]

from registry.conversion.worker.job import WorkerError

WEIGHTS = "model.weights.h5"


def require_plain_weights(keras_file: Path, scratch: Path) -> None:
    """Raises WorkerError when weights point outside the file or declare more bytes than it has.

    A few hundred bytes of HDF5 can declare terabytes, and a link can name any file the process may read.
    """
    path = scratch / WEIGHTS
    with zipfile.ZipFile(keras_file) as archive, archive.open(WEIGHTS) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    try:
        with h5py.File(path, "r") as weights:
            _require_no_links(weights)
            declared = _declared_bytes(weights)
    except (OSError, RuntimeError, KeyError) as error:
        raise WorkerError("damaged_weights", f"expected readable HDF5 weights; got {error}") from error
    if declared > path.stat().st_size:
        raise WorkerError("weights_size", f"expected at most {path.stat().st_size} bytes of weights; got {declared}")
    path.unlink()


def _require_no_links(weights: Any) -> None:
    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise WorkerError("weights_link", f"expected weights inside the file; got the link {name!r}")

    weights.visititems_links(visit)


def _declared_bytes(weights: Any) -> int:
    total = 0

    def visit(name: str, item: Any) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise WorkerError("weights_link", f"expected weights inside the file; got {name!r} outside it")
            total += item.size * item.dtype.itemsize

    weights.visititems(visit)
    return total
