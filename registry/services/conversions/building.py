"""One step of a conversion in a workspace: fetch what it starts from, run it, say what it made.

Used by jobs, which take the files of their base from the store, and by reproductions, which have just built them.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from django.conf import settings

from registry.blob_store import blob_store
from registry.conversion import runner
from registry.conversion.recipes import TRACE, TRACES
from registry.conversion.report import ProducedFile, Report
from registry.digests import sha256_of_file
from registry.models import Artifact, ConversionJob, ModelVersion
from registry.services.workspaces import Beat

Files = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Bench:
    """Where a step of one version is built. `beat` is called while bytes are copied, `on_heartbeat` while it runs."""

    version: ModelVersion
    workspace: Path
    beat: Beat
    on_heartbeat: runner.OnHeartbeat

    def build(self, step: str, *, start: Path | None, output: Path) -> Report:
        """Run a trace or a recipe. `start` is the folder of what it starts from, None for the main trace."""
        output.mkdir(parents=True)
        if step in TRACES:
            return self._trace(step, start, output)
        return _with_labels(self._recipe(step, start, output), self.version, output)

    def base_folder(self, base: str) -> Path:
        """A base's files as its job left them in the store: the main trace's with the base's own laid over them."""
        folder = self.workspace / "base"
        for name in dict.fromkeys((TRACE, base)):
            job: ConversionJob = self.version.jobs.get(recipe=name)
            self._fetch(job.report["files"], folder)
        return folder

    def _trace(self, trace: str, main: Path | None, output: Path) -> Report:
        version = self.version
        return runner.run_trace(
            trace=trace,
            source=self._artifact(version.source, f"source{Path(version.source_file_name).suffix.lower()}"),
            source_format=cast("runner.SourceFormat", version.source_format),
            source_signature=version.source_signature,
            evaluation_set=self._artifact(version.evaluation_set, "evaluation_set.npz"),
            training_set=self._artifact(version.training_set, "training_set.npz") if trace != TRACE else None,
            main=main,
            output=output,
            limits=_limits(
                runner.TRACE_LIMITS, settings.AEROGRAM_TRACE_TIMEOUT_SECONDS, settings.AEROGRAM_TRACE_MEMORY_MIB
            ),
            on_heartbeat=self.on_heartbeat,
            workspace=self.workspace,
        )

    def _recipe(self, recipe: str, start: Path | None, output: Path) -> Report:
        assert start is not None
        return runner.run_recipe(
            recipe=recipe,
            trace=start,
            evaluation_set=self._artifact(self.version.evaluation_set, "evaluation_set.npz"),
            metadata=self._metadata(),
            output=output,
            limits=_limits(
                runner.RECIPE_LIMITS, settings.AEROGRAM_RECIPE_TIMEOUT_SECONDS, settings.AEROGRAM_RECIPE_MEMORY_MIB
            ),
            on_heartbeat=self.on_heartbeat,
            workspace=self.workspace,
        )

    def _metadata(self) -> Path | None:
        """What the app must know of the model, as the file that the worker embeds."""
        document = told_metadata(self.version)
        if not document:
            return None
        path = self.workspace / "metadata.json"
        path.write_text(json.dumps(document, sort_keys=True), "utf-8")
        return path

    def _artifact(self, artifact: Artifact | None, name: str) -> Any:
        """A copy of the artifact in the workspace; the same one for every step built there."""
        if artifact is None:
            return None
        path = self.workspace / name
        if not path.exists():
            blob_store().copy_to(artifact.sha256, path, on_chunk=self.beat)
        return path

    def _fetch(self, files: Files, folder: Path) -> None:
        for entry in files:
            blob_store().copy_to(entry["sha256"], folder / entry["path"], on_chunk=self.beat)


def overlay(folder: Path, *layers: Path) -> Path:
    """Lay folders over each other into a new one; of files with the same path the last one stays."""
    for layer in layers:
        shutil.copytree(layer, folder, dirs_exist_ok=True)
    return folder


def told_metadata(version: ModelVersion) -> dict[str, Any]:
    """The version's metadata with its labels; empty when it has neither."""
    labels = {"labels": version.labels} if version.labels else {}
    return {**version.metadata, **labels}


def _with_labels(report: Report, version: ModelVersion, output: Path) -> Report:
    """Ship the version's labels beside the model, so that they switch together."""
    if report.state != "succeeded" or not version.labels:
        return report
    path = output / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in version.labels))
    sha256, size_bytes = sha256_of_file(path)
    return replace(report, files=(*report.files, ProducedFile(path.name, "labels", size_bytes, sha256)))


def _limits(base: runner.Limits, timeout_seconds: int, memory_mib: int) -> runner.Limits:
    return replace(
        base,
        wall_seconds=timeout_seconds,
        resident_bytes=memory_mib << 20,
        user=settings.AEROGRAM_CONVERSION_USER,
    )
