"""Where a variant comes from: everything needed to build it again, by digest."""

import hashlib
import json
from typing import Any

from registry.conversion.recipes import RECIPES, TRACE, TRACES, base_of
from registry.digests import tree_digest
from registry.models import Artifact, Variant
from registry.services.conversions.building import told_metadata


def lineage(variant: Variant) -> dict[str, Any]:
    version = variant.version
    metadata = told_metadata(version)
    jobs = {job.recipe: job for job in version.jobs.all()}
    base = base_of(variant.name, version.source_format) if variant.name in RECIPES else TRACE
    traces = [name for name in dict.fromkeys((TRACE, base)) if name in jobs]
    reused_from = jobs[variant.name].reused_from if variant.name in jobs else None
    return {
        "source_sha256": version.source.sha256,
        "source_format": version.source_format,
        "source_file_name": version.source_file_name,
        "source_signature": version.source_signature,
        "evaluation_set_sha256": _sha256(version.evaluation_set),
        "training_set_sha256": _sha256(version.training_set),
        "metadata_sha256": _digest(metadata) if metadata else None,
        "rebuilt_from": version.rebuilt_from.number if version.rebuilt_from else None,
        "recipe": variant.name,
        "recipe_sha256": variant.recipe_digest,
        "traces": [
            {
                "trace": name,
                "trace_sha256": TRACES[name].digest if name in TRACES else None,
                "tree_sha256": _tree(jobs[name].report),
                "converter_versions": jobs[name].report.get("converter_versions") or {},
            }
            for name in traces
        ],
        "converter_versions": variant.report.get("converter_versions") or {},
        "reused_from": str(reused_from.version) if reused_from else None,
    }


def _sha256(artifact: Artifact | None) -> str | None:
    return artifact.sha256 if artifact else None


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _tree(report: dict[str, Any]) -> str:
    return tree_digest({entry["path"]: entry["sha256"] for entry in report.get("files") or ()})
