"""Rows for tests, made by the services where there is one, so that they are as real as any."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model

from registry import services
from registry.blob_store import blob_store
from registry.conversion.recipes import RECIPES
from registry.digests import tree_digest
from registry.models import (
    ApiToken,
    Application,
    Artifact,
    ConversionJob,
    JobState,
    ModelVersion,
    RegisteredModel,
    Variant,
    VariantFile,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Clock:
    """Time that moves only when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> datetime:
        self.now += timedelta(**duration)
        return self.now


def application(slug: str = "demo") -> Application:
    return services.create_application(slug=slug, name=slug.title(), actor="tests", now=NOW)


def user(name: str = "ada", *, superuser: bool = False) -> Any:
    make = get_user_model().objects.create_superuser if superuser else get_user_model().objects.create_user
    return make(name)


def token(owner: Any) -> str:
    now = datetime.now(UTC)
    return ApiToken.issue(user=owner, name="tests", now=now, expires_at=now + timedelta(hours=1))[1]


def artifact(content: bytes) -> Artifact:
    staged = blob_store().stage([content], max_bytes=1 << 20)
    blob_store().keep(staged)
    row, _ = Artifact.objects.get_or_create(
        sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": NOW}
    )
    return row


def version(app: Application, model: str = "digits", **said: Any) -> ModelVersion:
    """A version whose conversions are not asked for. `said`: columns in place of what stands here."""
    row, _ = RegisteredModel.objects.get_or_create(
        application=app, slug=model, defaults={"name": model, "created_at": NOW}
    )
    number = row.versions.count() + 1
    plain = {
        "source": artifact(f"source of {app}/{model}:{number}".encode()),
        "source_format": "keras",
        "source_file_name": "model.keras",
        "registered_by": "tests",
        "registered_at": NOW,
    }
    return ModelVersion.objects.create(model=row, number=number, **plain | said)


def variant(
    of: ModelVersion, name: str = "tflite-float32", contents: dict[str, bytes] | None = None, **reported: Any
) -> Variant:
    """A variant with a model file and sanity vectors, as a conversion would leave it; `reported` is its report's."""
    recipe = RECIPES[name]
    sanity = json.dumps({"tolerance": "0.02", "samples": []}).encode()
    contents = contents or {recipe.entry: f"bytes of {of} {name}".encode(), "sanity.json": sanity}
    artifacts = {path: artifact(content) for path, content in contents.items()}
    tensor = {"name": "image", "shape": [1, 32, 32, 1], "dtype": "float32", "quantization": None}
    row = Variant.objects.create(
        version=of,
        name=name,
        runtime=recipe.runtime,
        min_runtime_version=recipe.min_runtime_version,
        entry=recipe.entry,
        tree_digest=tree_digest({path: found.sha256 for path, found in artifacts.items()}),
        size_bytes=artifacts[recipe.entry].size_bytes,
        recipe_digest=recipe.digest,
        report={
            "state": "succeeded",
            "signature": {"inputs": [tensor], "outputs": []},
            "converter_versions": {"keras": "3.15.1"},
            "parity": {"max_abs_error": 0.0, "mean_abs_error": 0.0, "top1_agreement": 1.0, "samples": 8},
            **reported,
        },
        created_at=NOW,
    )
    for path, found in artifacts.items():
        role = "sanity" if path == "sanity.json" else "model"
        VariantFile.objects.create(
            variant=row, path=path, role=role, media_type="application/octet-stream", artifact=found
        )
    return row


def converted_version(app: Application, model: str = "digits", names: tuple[str, ...] = ("tflite-float32",)) -> Any:
    of = version(app, model)
    for name in names:
        variant(of, name)
    return of


def job(of: ModelVersion, recipe: str = "trace", state: str = JobState.QUEUED) -> ConversionJob:
    return ConversionJob.objects.create(version=of, recipe=recipe, state=state, queued_at=NOW)


def evaluation_set(samples: int = 8) -> bytes:
    buffer = io.BytesIO()
    inputs = np.zeros((samples, 32, 32, 1), np.float32)
    np.savez(buffer, image=inputs, labels=np.arange(samples) % 10)
    return buffer.getvalue()
