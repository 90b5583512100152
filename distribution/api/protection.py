"""REST for protection: which models are published encrypted, what is asked of installations, keys and who had them."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from distribution.models import AttestationSettings, ContentKey, KeyCall, ModelProtection
from distribution.protection import errors, services
from registry.api.access import find_model
from registry.api.base import NounView, Verb
from registry.api.pages import PageQuery
from registry.api.serializers import Body, ReasonRequest
from registry.models import Role

DEVICE_VERDICTS = ["MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY", "MEETS_STRONG_INTEGRITY"]


class ProtectionRequest(Body):
    is_on = serializers.BooleanField(help_text="For versions that are first released from now on.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")


class ProtectionSerializer(serializers.ModelSerializer[ModelProtection]):
    model = serializers.CharField(source="model.slug")

    class Meta:
        model = ModelProtection
        fields = ["model", "is_on"]


class AttestationRequest(Body):
    mode = serializers.ChoiceField(choices=AttestationSettings.Mode.choices)
    apple_app_id = serializers.RegexField(
        r"^([A-Z0-9]{10}\.[A-Za-z0-9.-]{1,155})?$",
        required=False,
        allow_blank=True,
        default="",
        help_text="Team and bundle.",
    )
    apple_production = serializers.BooleanField(required=False, default=True)
    play_package_name = serializers.RegexField(
        r"^([A-Za-z0-9_.]{1,200})?$", required=False, allow_blank=True, default=""
    )
    play_verification_key = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")
    play_decryption_key = serializers.CharField(
        required=False,
        allow_blank=True,
        allow_null=True,
        max_length=100,
        default=None,
        help_text="Kept wrapped and never shown; without it, the one there is stays.",
    )
    play_certificates = serializers.ListField(
        child=serializers.RegexField(r"^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$"),
        required=False,
        default=list,
        max_length=10,
    )
    play_verdict = serializers.ChoiceField(choices=DEVICE_VERDICTS, required=False, default="MEETS_DEVICE_INTEGRITY")


class AttestationSerializer(serializers.ModelSerializer[AttestationSettings]):
    has_play_decryption_key = serializers.SerializerMethodField()

    class Meta:
        model = AttestationSettings
        fields = [
            "mode",
            "apple_app_id",
            "apple_production",
            "play_package_name",
            "play_verification_key",
            "has_play_decryption_key",
            "play_certificates",
            "play_verdict",
        ]

    def get_has_play_decryption_key(self, row: AttestationSettings) -> bool:
        return row.play_decryption_key is not None


class ContentKeySerializer(serializers.ModelSerializer[ContentKey]):
    model = serializers.CharField(source="model.slug")
    variants = serializers.SerializerMethodField(help_text="What it opens, as version and variant.")

    class Meta:
        model = ContentKey
        fields = ["key_id", "model", "variants", "kek_id", "created_at", "revoked_at", "revoked_by", "revoke_reason"]

    def get_variants(self, row: ContentKey) -> list[str]:
        return [str(encrypted.variant) for encrypted in row.variants.all()]


class KeyCallQuery(PageQuery):
    key_id = serializers.RegexField(r"^[0-9a-f]{32}$", required=False)
    outcome = serializers.RegexField(r"^[a-z_]{1,40}$", required=False)


class KeyCallSerializer(serializers.ModelSerializer[KeyCall]):
    key_id = serializers.CharField(source="content_key.key_id")
    model = serializers.CharField(source="content_key.model.slug")

    class Meta:
        model = KeyCall
        fields = ["id", "at", "key_id", "model", "channel", "unit_key", "attestation", "outcome", "reason"]


class ProtectionView(NounView):
    verbs = {
        "GET": Verb(summary="Whether versions are published encrypted", role=Role.VIEWER, answer=ProtectionSerializer),
        "PUT": Verb(
            summary="Publish versions encrypted, or plain, from the next first release on",
            role=Role.ADMINISTRATOR,
            body=ProtectionRequest,
            answer=ProtectionSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        return self.shown(request, services.protection_of(find_model(self.application, model)))

    def put(self, request: Request, model: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, services.protection_of(find_model(self.application, model))) as row:
            services.set_protection(protection=row, actor=self.actor(request), now=timezone.now(), **wanted)
            row.refresh_from_db()
        return self.shown(request, row)


class AttestationView(NounView):
    verbs = {
        "GET": Verb(
            summary="What an installation must prove to be given a key", role=Role.VIEWER, answer=AttestationSerializer
        ),
        "PUT": Verb(
            summary="Ask for App Attest, Play Integrity, both, or nothing",
            role=Role.ADMINISTRATOR,
            body=AttestationRequest,
            answer=AttestationSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.shown(request, services.attestation_of(self.application))

    def put(self, request: Request) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, services.attestation_of(self.application)) as row:
            services.set_attestation(row=row, actor=self.actor(request), now=timezone.now(), **wanted)
            row.refresh_from_db()
        return self.shown(request, row)


class ContentKeysView(NounView):
    verbs = {
        "GET": Verb(
            summary="Content keys, newest first; never the keys themselves",
            role=Role.VIEWER,
            answer=ContentKeySerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.page(request, content_keys(self.application), by="-id")


class RevokeKeyView(NounView):
    verbs = {
        "POST": Verb(
            summary="Give a content key to nobody any more, for good",
            role=Role.RELEASER,
            body=ReasonRequest,
            answer=ContentKeySerializer,
        )
    }

    def post(self, request: Request, content_key: str) -> Response:
        wanted = self.body(request)
        row = content_keys(self.application).filter(key_id=content_key).first()
        if row is None:
            raise errors.KeyNotFound(f"expected a content key of {self.application}, got {content_key!r}")
        services.revoke_key(key=row, actor=self.actor(request), now=timezone.now(), reason=wanted["reason"])
        row.refresh_from_db()
        return self.shown(request, row)


class KeyCallsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Which installations asked for keys, and what became of it, newest first",
            role=Role.VIEWER,
            query=KeyCallQuery,
            answer=KeyCallSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        wanted = self.query(request)
        columns = {"key_id": "content_key__key_id", "outcome": "outcome"}
        conditions = {columns[name]: value for name, value in wanted.items() if name in columns}
        rows = self.application.key_calls.filter(**conditions).select_related("content_key__model")
        return self.page(request, rows, by="-id")


def content_keys(application: Any) -> Any:
    rows = ContentKey.objects.filter(model__application=application).select_related("model__application")
    return rows.prefetch_related("variants__variant__version__model")
