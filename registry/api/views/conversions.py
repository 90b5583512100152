"""Steering the conversions of a version, seeing how far they are, and comparing what came out."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import services
from registry.api.access import find_job
from registry.api.base import Verb
from registry.api.conversion_serializers import (
    ComparisonSerializer,
    MatrixSerializer,
    PriorityRequest,
    RebuildRequest,
)
from registry.api.version_serializers import JobSerializer, VersionSerializer
from registry.api.views.models import OneVersionView
from registry.models import Role
from registry.models.conversions import UNFINISHED
from registry.services.comparing import compare_versions
from registry.services.matrix import matrix


class MatrixView(OneVersionView):
    verbs = {
        "GET": Verb(
            summary="Every recipe of a version: its state, live progress, size, accuracy, latency and gates",
            role=Role.VIEWER,
            answer=MatrixSerializer,
        )
    }

    def get(self, request: Request, model: str, number: int) -> Response:
        version = self.found(model, number)
        rows = matrix(version)
        document = {
            "model": model,
            "version": number,
            "is_open": any(row.state in UNFINISHED for row in rows),
            "rows": [row.to_json() for row in rows],
        }
        return self.shown(request, document)


class CompareView(OneVersionView):
    verbs = {
        "GET": Verb(
            summary="A version against another, recipe by recipe, in pairs where both ran the same samples",
            role=Role.VIEWER,
            answer=ComparisonSerializer,
        )
    }

    def get(self, request: Request, model: str, number: int, other: int) -> Response:
        newer, older = self.found(model, number), self.found(model, other)
        rows = [row.to_json() for row in compare_versions(older, newer)]
        return self.shown(request, {"model": model, "older": other, "newer": number, "rows": rows})


class VersionCancelView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Stop all conversions of a version that are not done", role=Role.EDITOR, answer=VersionSerializer
        )
    }

    def post(self, request: Request, model: str, number: int) -> Response:
        version = self.found(model, number)
        services.cancel_version(version=version, actor=self.actor(request), now=timezone.now())
        return self.shown(request, version)


class RebuildView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Make a new version of the same source with the converters of today",
            role=Role.EDITOR,
            body=RebuildRequest,
            answer=VersionSerializer,
            status=201,
            idempotent=True,
        )
    }

    def post(self, request: Request, model: str, number: int) -> Response:
        wanted = self.body(request)
        made = services.rebuild_version(
            version=self.found(model, number), notes=wanted["notes"], actor=self.actor(request), now=timezone.now()
        )
        return self.shown(request, made)


class JobCancelView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Stop a conversion: at once where it waits, within seconds where it runs",
            role=Role.EDITOR,
            answer=JobSerializer,
        )
    }

    def post(self, request: Request, model: str, number: int, recipe: str) -> Response:
        job = find_job(self.found(model, number), recipe)
        services.cancel_job(job=job, actor=self.actor(request), now=timezone.now())
        job.refresh_from_db()
        return self.shown(request, job)


class JobRetryView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Run a conversion again that did not succeed, with what failed along with it",
            role=Role.EDITOR,
            answer=JobSerializer,
        )
    }

    def post(self, request: Request, model: str, number: int, recipe: str) -> Response:
        job = find_job(self.found(model, number), recipe)
        services.retry_job(job=job, actor=self.actor(request), now=timezone.now())
        job.refresh_from_db()
        return self.shown(request, job)


class JobPriorityView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Let a conversion run before others (above 0) or after them",
            role=Role.EDITOR,
            body=PriorityRequest,
            answer=JobSerializer,
        )
    }

    def post(self, request: Request, model: str, number: int, recipe: str) -> Response:
        wanted = self.body(request)
        job = find_job(self.found(model, number), recipe)
        services.prioritise_job(job=job, priority=wanted["priority"], actor=self.actor(request), now=timezone.now())
        job.refresh_from_db()
        return self.shown(request, job)
