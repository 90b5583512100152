"""Conversions that need not run: one with the same inputs, recipe and converters has succeeded before.

Within one application only. Blobs are known by digest and shared by all applications, but whether somebody else has
converted these very bytes is nobody's business.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import registry.conversion
from registry.blob_store import blob_store
from registry.conversion.recipes import RECIPES, TRACE, TRACES
from registry.conversion.report import Report, ReportError
from registry.conversion.worker.job import installed_versions
from registry.digests import tree_digest
from registry.models import Artifact, ConversionJob, JobState
from registry.services.conversions.building import told_metadata

CONVERTERS = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "numpy",
    "protobuf",
    "flatbuffers",
    "h5py",
    "ml_dtypes",
)


@dataclass(frozen=True)
class Earlier:
    """A job that had the same key, what it reported, and the artifact of each of its files by path."""

    job: ConversionJob
    report: Report
    artifacts: dict[str, Artifact]


def reuse_key(job: ConversionJob) -> str:
    """SHA-256 over everything that the outcome depends on.

    Compute it where the job would run: the converters that are installed there count.
    """
    version = job.version
    is_derived = job.is_trace and job.recipe != TRACE
    inputs = {
        "source": [version.source.sha256, version.source_format, version.source_signature],
        "evaluation_set": version.evaluation_set.sha256 if version.evaluation_set else None,
        # Recipes see it through the files of their base.
        "training_set": version.training_set.sha256 if version.training_set and is_derived else None,
        "step": (TRACES if job.is_trace else RECIPES)[job.recipe].digest,
        "base": _base_digest(job),
        "metadata": None if job.is_trace else told_metadata(version),
        "converters": installed_versions(CONVERTERS),
        "worker": _worker_digest(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def earlier_with(key: str, job: ConversionJob) -> Earlier | None:
    """The first job of the application that succeeded under this key and whose files are all still there."""
    found = (
        ConversionJob.objects.filter(reuse_key=key, state=JobState.SUCCEEDED, recipe=job.recipe)
        .filter(version__model__application=job.version.model.application_id)
        .exclude(pk=job.pk)
        .select_related("version__model")
        .order_by("pk")
        .first()
    )
    if found is None:
        return None
    try:
        report = Report.from_json(found.report)
    except ReportError:  # of a version of Aerogram whose reports had other members
        return None
    artifacts = {row.sha256: row for row in Artifact.objects.filter(sha256__in=[file.sha256 for file in report.files])}
    if not all(file.sha256 in artifacts and blob_store().exists(file.sha256) for file in report.files):
        return None
    note = f"reused from {found.version}: same source, sets, recipe and converters; its measurements are from then"
    return Earlier(
        found,
        replace(report, notes=(*report.notes, note)),
        {file.path: artifacts[file.sha256] for file in report.files},
    )


def _base_digest(job: ConversionJob) -> str | None:
    """One digest for all files that the job is given: the main trace's and, over them, its base's."""
    if not job.base_name:
        return None
    files: dict[str, Any] = {}
    for name in dict.fromkeys((TRACE, job.base_name)):
        files |= {entry["path"]: entry["sha256"] for entry in job.version.jobs.get(recipe=name).report["files"]}
    return tree_digest(files)


@cache
def _worker_digest() -> str:
    """Of our own converting code: a mended verifier must not trust what the one before it let pass."""
    root = Path(registry.conversion.__path__[0])
    digests = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.py"))
    }
    return tree_digest(digests)
