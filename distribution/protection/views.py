"""What phones ask the key service: a challenge, and then a key. Open to everybody; a challenge is what lets them in."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from distribution.protection import releasing
from distribution.protection.attestation import FORMATS, MOST_BYTES, PLAY_INTEGRITY
from distribution.protection.handover import ALGORITHM, KeyRequest, from_base64, to_base64
from distribution.protection.releasing import Proof
from registry.api.serializers import Body

MOST_BODY_BYTES = 64 << 10


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "body_too_large"
    default_detail = f"expected a body of at most {MOST_BODY_BYTES} bytes with its length, got more"


class Base64Field(serializers.CharField):
    """URL-safe base64 without padding, as bytes."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            return from_base64(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class ChallengeRequest(Body):
    channel = serializers.SlugField(max_length=63)


class AttestationRequest(Body):
    format = serializers.ChoiceField(choices=FORMATS)
    key_id = Base64Field(max_length=64, required=False)
    object = Base64Field(max_length=2 * MOST_BYTES, required=False)
    token = serializers.CharField(max_length=2 * MOST_BYTES, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        needed = ("token",) if attrs["format"] == PLAY_INTEGRITY else ("key_id", "object")
        for name in needed:
            if name not in attrs:
                raise serializers.ValidationError({name: [f"expected {name} with {attrs['format']}, got none"]})
        return attrs


class ReleaseKeyRequest(ChallengeRequest):
    challenge = Base64Field(max_length=200)
    public_key = Base64Field(max_length=200)
    attestation = AttestationRequest(required=False, allow_null=True, default=None)


class PhoneView(APIView):
    """Answers are nobody else's to keep."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def initial(self, request: Request, *arguments: Any, **names: Any) -> None:
        super().initial(request, *arguments, **names)
        length = request.META.get("CONTENT_LENGTH") or ""
        if request.method == "POST" and (not length.isdigit() or int(length) > MOST_BODY_BYTES):
            raise BodyTooLarge

    def finalize_response(self, request: Any, response: Any, *arguments: Any, **names: Any) -> Any:
        answer = super().finalize_response(request, response, *arguments, **names)
        answer["Cache-Control"] = "no-store"
        return answer

    def asked(self, request: Request, body: type[Body], application: str, key_id: str) -> tuple[KeyRequest, Any]:
        """Raises DRF's ValidationError."""
        checked = body(data=request.data)
        checked.is_valid(raise_exception=True)
        wanted = checked.validated_data
        unit = request.headers.get("Aerogram-Unit", "")
        return KeyRequest(application, wanted["channel"], key_id, unit), wanted


class ChallengesView(PhoneView):
    def post(self, request: Request, application: str, key_id: str) -> Response:
        asked, _ = self.asked(request, ChallengeRequest, application, key_id)
        challenge, expires = releasing.challenge(asked, timezone.now())
        return Response({"challenge": to_base64(challenge), "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}, status=201)


class KeyView(PhoneView):
    def post(self, request: Request, application: str, key_id: str) -> Response:
        asked, wanted = self.asked(request, ReleaseKeyRequest, application, key_id)
        answer = releasing.release_key(
            request=asked,
            answered=wanted["challenge"],
            public_key=wanted["public_key"],
            proof=_proof(wanted["attestation"]),
            now=timezone.now(),
        )
        return Response(
            {
                "key_id": key_id,
                "algorithm": ALGORITHM,
                "public_key": to_base64(answer.public_key),
                "ciphertext": to_base64(answer.ciphertext),
            }
        )


def _proof(told: dict[str, Any] | None) -> Proof | None:
    if told is None:
        return None
    content = told["token"].encode() if told["format"] == PLAY_INTEGRITY else told["object"]
    return Proof(told["format"], content, told.get("key_id", b""))
