"""Two versions side by side, from what is stored of their conversions."""

from collections.abc import Mapping
from typing import Any

from registry.conversion.comparison import Row, compare
from registry.conversion.recipes import RECIPES
from registry.conversion.report import Report, ReportError
from registry.models import ModelVersion


def compare_versions(older: ModelVersion, newer: ModelVersion) -> tuple[Row, ...]:
    """What each recipe cost in two versions, and the difference, paired where both ran the same samples."""
    return compare(_reports(older), _reports(newer))


def _reports(version: ModelVersion) -> dict[str, Report]:
    """The report of each recipe that was run: its variant's, or that of the job that made none."""
    documents: dict[str, Mapping[str, Any]] = {
        job.recipe: job.report for job in version.jobs.order_by("pk") if job.recipe in RECIPES
    }
    documents |= {variant.name: variant.report for variant in version.variants.all()}
    found = {name: _read(document) for name, document in documents.items()}
    return {name: report for name, report in found.items() if report is not None}


def _read(document: Mapping[str, Any]) -> Report | None:
    """None for what is not done, was cancelled, or comes from a version of Aerogram with other members."""
    try:
        return Report.from_json(document)
    except ReportError:
        return None
