"""What the runner hands to a worker process and what it gets back: two JSON files in the job's scratch directory."""

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry.conversion.report import ProducedFile, Report, Role
from registry.inspection.source import storable


class WorkerError(Exception):
    """A job's own failure: `code` is a word for machines, `detail` says what was expected and what was got."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Job:
    """Paths are absolute; `scratch` is this process's own and vanishes with it.

    `trace_recipe` is the trace to make, `trace` the folder of the one to start from. `source_signature` chooses among
    those of a SavedModel.
    """

    step: str
    output: Path
    scratch: Path
    source: Path | None = None
    source_format: str = ""
    source_signature: str = ""
    trace_recipe: str = ""
    recipe: str = ""
    trace: Path | None = None
    evaluation_set: Path | None = None
    training_set: Path | None = None
    metadata: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What the worker may read beside its own code."""
        given = (self.source, self.trace, self.evaluation_set, self.training_set, self.metadata)
        return tuple(path for path in given if path)

    def to_json(self) -> dict[str, Any]:
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Job":
        paths = {"output", "scratch", "source", "trace", "evaluation_set", "training_set", "metadata"}
        members: dict[str, Any] = {k: Path(v) if k in paths and v else v for k, v in data.items()}
        return cls(**members)


def produced(root: Path, path: Path, role: Role) -> ProducedFile:
    with path.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    return ProducedFile(path.relative_to(root).as_posix(), role, path.stat().st_size, digest)


def produced_below(root: Path, start: Path, role: Role) -> tuple[ProducedFile, ...]:
    """The files of a package directory, or the one file, sorted by path."""
    files = sorted(path for path in start.rglob("*") if path.is_file()) if start.is_dir() else [start]
    return tuple(produced(root, path, role) for path in files)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed, and Python's."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_result(scratch: Path, report: Report) -> None:
    """Written under another name first: a process that dies while writing leaves no half result."""
    partial = scratch / "result.partial"
    partial.write_text(json.dumps(_storable(report.to_json()), allow_nan=False), "utf-8")
    partial.rename(scratch / "result.json")


def _storable(value: Any) -> Any:
    """A damaged file's own words stand in names and errors, and may hold what the supervisor would refuse."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list | tuple) else value
