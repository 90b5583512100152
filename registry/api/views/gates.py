"""Profiles and gates of a model, and what is decided, measured and proved about its variants."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors, services
from registry.api.access import find_model, find_variant
from registry.api.base import NounView, Verb
from registry.api.conversion_serializers import (
    BenchmarkBody,
    BenchmarkSerializer,
    GatesBody,
    GatesSerializer,
    NewProfileBody,
    OverrideSerializer,
    ProfileBody,
    ProfileSerializer,
    ReproductionSerializer,
)
from registry.api.serializers import ReasonRequest
from registry.api.views.models import OneVersionView
from registry.models import ConversionProfile, Role, Variant


class ProfilesView(NounView):
    verbs = {
        "GET": Verb(summary="The model's profiles", role=Role.VIEWER, answer=ProfileSerializer, many=True),
        "POST": Verb(
            summary="Make a profile: a named set of recipes",
            role=Role.EDITOR,
            body=NewProfileBody,
            answer=ProfileSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        return self.page(request, find_model(self.application, model).profiles.all(), by="name")

    def post(self, request: Request, model: str) -> Response:
        wanted = self.body(request)
        made = services.create_profile(
            model=find_model(self.application, model), actor=self.actor(request), now=timezone.now(), **wanted
        )
        return self.shown(request, made)


class ProfileView(NounView):
    verbs = {
        "GET": Verb(summary="One profile", role=Role.VIEWER, answer=ProfileSerializer),
        "PUT": Verb(
            summary="Put other recipes under the name",
            role=Role.EDITOR,
            body=ProfileBody,
            answer=ProfileSerializer,
            conditional=True,
        ),
        "DELETE": Verb(summary="Delete a profile; versions stay", role=Role.EDITOR, status=204, conditional=True),
    }

    def get(self, request: Request, model: str, profile: str) -> Response:
        return self.shown(request, self._found(model, profile))

    def put(self, request: Request, model: str, profile: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, self._found(model, profile)) as row:
            services.replace_profile(profile=row, actor=self.actor(request), now=timezone.now(), **wanted)
            row.refresh_from_db()
        return self.shown(request, row)

    def delete(self, request: Request, model: str, profile: str) -> Response:
        with self.unchanged(request, self._found(model, profile)) as row:
            services.delete_profile(profile=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)

    def _found(self, model: str, name: str) -> ConversionProfile:
        found = find_model(self.application, model)
        row = found.profiles.filter(name=name).first()
        if row is None:
            raise errors.NotFound(f"expected a profile of {found}, got {name!r}", field="profile")
        return row


class GatesView(NounView):
    verbs = {
        "GET": Verb(summary="What the model's variants must keep to", role=Role.VIEWER, answer=GatesSerializer),
        "PUT": Verb(
            summary="Replace the gates; what is live stays",
            role=Role.RELEASER,
            body=GatesBody,
            answer=GatesSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        return self.shown(request, find_model(self.application, model))

    def put(self, request: Request, model: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_model(self.application, model)) as row:
            services.set_gates(model=row, gates=wanted, actor=self.actor(request), now=timezone.now())
            row.refresh_from_db()
        return self.shown(request, row)


class OneVariantView(OneVersionView):
    """What the addresses below one variant share."""

    def variant(self, model: str, number: int, name: str) -> Variant:
        return find_variant(self.found(model, number), name)


class OverrideView(OneVariantView):
    verbs = {
        "GET": Verb(
            summary="Decisions to release a variant although it misses a gate",
            role=Role.VIEWER,
            answer=OverrideSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Allow a blocked variant to be released, for the misses it has now",
            role=Role.RELEASER,
            body=ReasonRequest,
            answer=OverrideSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str, number: int, variant: str) -> Response:
        return self.page(request, self.variant(model, number, variant).overrides.all(), by="-pk")

    def post(self, request: Request, model: str, number: int, variant: str) -> Response:
        wanted = self.body(request)
        made = services.override_gates(
            variant=self.variant(model, number, variant),
            reason=wanted["reason"],
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, made)


class BenchmarksView(OneVariantView):
    verbs = {
        "GET": Verb(
            summary="What devices measured, newest first", role=Role.VIEWER, answer=BenchmarkSerializer, many=True
        ),
        "POST": Verb(
            summary="Report what one inference takes on a device",
            role=Role.EDITOR,
            body=BenchmarkBody,
            answer=BenchmarkSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str, number: int, variant: str) -> Response:
        return self.page(request, self.variant(model, number, variant).benchmarks.all(), by="-pk")

    def post(self, request: Request, model: str, number: int, variant: str) -> Response:
        wanted = self.body(request)
        made = services.report_benchmark(
            variant=self.variant(model, number, variant), actor=self.actor(request), now=timezone.now(), **wanted
        )
        return self.shown(request, made)


class ReproductionsView(OneVariantView):
    verbs = {
        "GET": Verb(summary="Second builds, newest first", role=Role.VIEWER, answer=ReproductionSerializer, many=True),
        "POST": Verb(
            summary="Build a variant again from its stored source and compare every byte",
            role=Role.EDITOR,
            answer=ReproductionSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str, number: int, variant: str) -> Response:
        return self.page(request, self.variant(model, number, variant).reproductions.all(), by="-pk")

    def post(self, request: Request, model: str, number: int, variant: str) -> Response:
        made = services.request_reproduction(
            variant=self.variant(model, number, variant), actor=self.actor(request), now=timezone.now()
        )
        return self.shown(request, made)


class ReproductionView(OneVariantView):
    verbs = {"GET": Verb(summary="One second build", role=Role.VIEWER, answer=ReproductionSerializer)}

    def get(self, request: Request, model: str, number: int, variant: str, reproduction: int) -> Response:
        of = self.variant(model, number, variant)
        row = of.reproductions.filter(pk=reproduction).first()
        if row is None:
            raise errors.NotFound(f"expected a reproduction of {of}, got {reproduction}", field="reproduction")
        return self.shown(request, row)
