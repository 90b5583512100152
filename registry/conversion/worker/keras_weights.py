"""The HDF5 half of a `.keras` file, before Keras allocates what it declares."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]

from registry.conversion.worker.job import WorkerError
from registry.inspection.archive import DAMAGE

WEIGHTS = "model.weights.h5"


def require_plain_weights(keras_file: Path, scratch: Path) -> None:
    """Raises WorkerError when weights point outside the file or declare more bytes than it has.

    A few hundred bytes of HDF5 can declare terabytes, and a link can name any file the process may read.
    """
    path = scratch / WEIGHTS
    try:
        with zipfile.ZipFile(keras_file) as archive, archive.open(WEIGHTS) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        with h5py.File(path, "r") as weights:
            _require_no_links(weights)
            declared = _declared_bytes(weights)
    except (OSError, RuntimeError, KeyError, TypeError, *DAMAGE) as error:
        raise WorkerError("damaged_weights", f"expected readable HDF5 weights; got {error}") from error
    if declared > path.stat().st_size:
        raise WorkerError("weights_size", f"expected at most {path.stat().st_size} bytes of weights; got {declared}")
    path.unlink()


def _require_no_links(weights: Any) -> None:
    # A visitor that raises leaves HDF5's lock in a state of error: it returns what it found, which ends the visit.
    def visit(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink | h5py.SoftLink) else None

    found = weights.visititems_links(visit)
    if found is not None:
        raise WorkerError("weights_link", f"expected weights inside the file; got the link {found!r}")


def _declared_bytes(weights: Any) -> int:
    datasets: list[Any] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets.append(item)

    weights.visititems(visit)
    for item in datasets:
        if item.external or item.is_virtual:
            raise WorkerError("weights_link", f"expected weights inside the file; got {item.name!r} outside it")
    return sum(int(item.size) * int(item.dtype.itemsize) for item in datasets)
