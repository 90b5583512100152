"""REST for trust: roots and targets that were signed elsewhere, counters that only rise, what an app embeds."""

from dataclasses import asdict
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from distribution import errors, services
from distribution.api.serializers import RootSerializer
from distribution.trust import embedding, imports
from distribution.trust.roles import TARGETS
from distribution.trust.status import trust_status
from distribution.trust.tree import SignedTree
from registry.api.access import find_channel, find_model
from registry.api.base import NounView, Verb
from registry.api.serializers import Body
from registry.blob_store import blob_store
from registry.models import Role


class RootRequest(Body):
    """`targets`: signed by a key that only this root names, when the key before it is lost."""

    root = serializers.DictField()  # type: ignore[assignment]  # the metaclass takes it out of the class
    targets = serializers.DictField(required=False, allow_null=True, default=None)


class TargetsQuery(serializers.Serializer[Any]):
    role = serializers.CharField(max_length=80, required=False, default=TARGETS)


class TargetsRequest(Body):
    role = serializers.CharField(max_length=80, required=False, default=TARGETS)
    targets = serializers.DictField()


class KeyRequest(Body):
    role = serializers.CharField(max_length=80)
    key = serializers.DictField()


class KeysSerializer(serializers.Serializer[Any]):
    application = serializers.CharField()
    keys = serializers.DictField(child=serializers.DictField())


class RoleStatusSerializer(serializers.Serializer[Any]):
    role = serializers.CharField()
    version = serializers.IntegerField()
    keyids = serializers.ListField(child=serializers.CharField())
    threshold = serializers.IntegerField()
    signed_by = serializers.ListField(child=serializers.CharField())
    signed_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField()
    days_left = serializers.FloatField()
    warning_days = serializers.IntegerField(allow_null=True)
    key_is_wanted = serializers.BooleanField()


class TrustStatusSerializer(serializers.Serializer[Any]):
    roles = RoleStatusSerializer(many=True)
    root_signed_here = serializers.BooleanField()
    warnings = serializers.ListField(child=serializers.CharField())


class MinimumRequest(Body):
    value = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    reason = serializers.CharField(max_length=1000)


class MinimumSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    value = serializers.IntegerField()


class EmbeddedQuery(serializers.Serializer[Any]):
    variant = serializers.CharField(max_length=80, required=False)


class EmbeddedSerializer(serializers.Serializer[Any]):
    application = serializers.CharField()
    channel = serializers.CharField()
    model = serializers.CharField()
    root = serializers.DictField()  # type: ignore[assignment]  # the metaclass takes it out of the class
    targets_version = serializers.IntegerField()
    minimum_release_counter = serializers.IntegerField()
    variants = serializers.DictField(child=serializers.DictField())


class RootView(NounView):
    """The trust root that an app embeds. Public in itself; asked for here by whoever builds the app."""

    verbs = {
        "GET": Verb(summary="The root that the app embeds", role=Role.VIEWER, answer=RootSerializer),
        "POST": Verb(
            summary="Bring the next root, signed by a ceremony",
            role=Role.ADMINISTRATOR,
            body=RootRequest,
            answer=RootSerializer,
            status=201,
        ),
    }

    def get(self, request: Request) -> Response:
        root = SignedTree(blob_store(), self.application.slug).root()
        if root is None:
            raise errors.RootNotSigned(
                f"expected a signed root for {self.application}; no ceremony and no signer process has made it yet"
            )
        return self.shown(request, root.to_dict())

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        accepted = imports.import_root(
            application=self.application, actor=self.actor(request), now=timezone.now(), **wanted
        )
        return self.shown(request, accepted.to_dict())


class TargetsView(NounView):
    verbs = {
        "GET": Verb(
            summary="The publisher's next targets, unsigned, to sign elsewhere",
            role=Role.RELEASER,
            query=TargetsQuery,
            answer=RootSerializer,
        ),
        "POST": Verb(
            summary="Bring targets that were signed elsewhere",
            role=Role.ADMINISTRATOR,
            body=TargetsRequest,
            answer=RootSerializer,
            status=201,
        ),
    }

    def get(self, request: Request) -> Response:
        role = self.query(request)["role"]
        return self.shown(request, imports.pending_targets(self.application, role, timezone.now()).to_dict())

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        accepted = imports.import_targets(
            application=self.application,
            role=wanted["role"],
            document=wanted["targets"],
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, accepted.to_dict())


class KeysView(NounView):
    verbs = {
        "GET": Verb(summary="Public keys by role, for a ceremony", role=Role.VIEWER, answer=KeysSerializer),
        "POST": Verb(
            summary="Tell the public key of targets, or of a model's role",
            role=Role.ADMINISTRATOR,
            body=KeyRequest,
            answer=KeysSerializer,
            status=201,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.shown(request, imports.keys_document(self.application))

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        imports.tell_key(
            application=self.application,
            role=wanted["role"],
            document=wanted["key"],
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, imports.keys_document(self.application))


class StatusView(NounView):
    verbs = {
        "GET": Verb(summary="Roles, keys and days to expiry", role=Role.VIEWER, answer=TrustStatusSerializer),
    }

    def get(self, request: Request) -> Response:
        return self.shown(request, asdict(trust_status(self.application, timezone.now())))


class MinimumView(NounView):
    verbs = {
        "GET": Verb(summary="The model's minimum release counter", role=Role.VIEWER, answer=MinimumSerializer),
        "POST": Verb(
            summary="Forbid files released before a counter, for ever",
            role=Role.ADMINISTRATOR,
            body=MinimumRequest,
            answer=MinimumSerializer,
            status=201,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        found = find_model(self.application, model)
        value = services.minimum_release_counter(found)
        return self.shown(request, {"model": found.slug, "value": value})

    def post(self, request: Request, model: str) -> Response:
        found = find_model(self.application, model)
        wanted = self.body(request)
        services.raise_minimum_release_counter(model=found, actor=self.actor(request), now=timezone.now(), **wanted)
        return self.shown(request, {"model": found.slug, "value": wanted["value"]})


class EmbeddedView(NounView):
    verbs = {
        "GET": Verb(
            summary="What an app ships with: root, and manifests of the present release",
            role=Role.VIEWER,
            query=EmbeddedQuery,
            answer=EmbeddedSerializer,
        )
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        variant = self.query(request).get("variant")
        found = find_channel(self.application, channel), find_model(self.application, model)
        return self.shown(request, embedding.embedded(*found, variant))
