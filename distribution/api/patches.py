"""REST for patches: what apps ship with, and which patches there are."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from distribution import patches
from distribution.models import EmbeddedModel, Patch
from registry.api.access import find_model
from registry.api.base import NounView, Verb
from registry.api.pages import PageQuery
from registry.api.serializers import Body
from registry.errors import Invalid
from registry.models import Role


class EmbeddedModelRequest(Body):
    model = serializers.CharField(max_length=63)
    upload = serializers.IntegerField(
        min_value=1, required=False, allow_null=True, default=None, help_text="The file, as uploaded before."
    )
    sha256 = serializers.RegexField(
        r"^[0-9a-f]{64}$", required=False, default="", help_text="Or the digest of a file of one of its variants."
    )
    file_name = serializers.CharField(max_length=255, help_text="As in the app; its suffix tells what it fits.")


class EmbeddedModelSerializer(serializers.ModelSerializer[EmbeddedModel]):
    model = serializers.CharField(source="model.slug")
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = EmbeddedModel
        fields = ["id", "model", "sha256", "size_bytes", "file_name", "registered_by", "registered_at"]


class PatchQuery(PageQuery):
    target = serializers.RegexField(r"^[0-9a-f]{64}$", required=False)
    state = serializers.ChoiceField(choices=Patch.State.choices, required=False)


class PatchSerializer(serializers.ModelSerializer[Patch]):
    target = serializers.CharField(source="target.sha256")
    base = serializers.CharField(source="base.sha256")
    target_bytes = serializers.IntegerField(source="target.size_bytes")

    class Meta:
        model = Patch
        fields = [
            "id",
            "target",
            "base",
            "target_bytes",
            "algorithm",
            "state",
            "length",
            "sha256",
            "detail",
            "requested_at",
            "made_at",
        ]


class EmbeddedModelsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Model files that apps ship with, newest first",
            role=Role.VIEWER,
            query=PageQuery,
            answer=EmbeddedModelSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Tell that an app ships with a file, so that its first update can be a patch",
            role=Role.EDITOR,
            body=EmbeddedModelRequest,
            answer=EmbeddedModelSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.embedded_models.select_related("model", "artifact"), by="-id")

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        row = patches.register_embedded(
            application=self.application,
            model=find_model(self.application, wanted["model"]),
            artifact=self._artifact(wanted),
            file_name=wanted["file_name"],
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, row)

    def _artifact(self, wanted: dict[str, Any]) -> Any:
        if (wanted["upload"] is None) == (not wanted["sha256"]):
            raise Invalid("expected either upload or sha256, got both or neither", field="upload")
        if wanted["sha256"]:
            return patches.artifact_in_use(application=self.application, sha256=wanted["sha256"])
        upload = self.application.uploads.select_related("artifact").filter(pk=wanted["upload"]).first()
        if upload is None:
            raise Invalid(f"expected the id of an upload to {self.application}, got {wanted['upload']}", field="upload")
        return upload.artifact


class PatchesView(NounView):
    verbs = {
        "GET": Verb(
            summary="Patches and what became of them, newest first",
            role=Role.VIEWER,
            query=PatchQuery,
            answer=PatchSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        wanted = self.query(request)
        columns = {"target": "target__sha256", "state": "state"}
        conditions = {columns[name]: value for name, value in wanted.items() if name in columns}
        rows = self.application.patches.filter(**conditions).select_related("target", "base")
        return self.page(request, rows, by="-id")
