"""Single installations: what is kept of them, to be deleted when they ask for it."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.event_stream import event_stream
from experiments.forgetting import Forgotten, forget_unit
from registry.api.base import NounView, Verb
from registry.api.serializers import Body
from registry.models import Role

LONGEST_UNIT = 128


class ForgetBody(Body):
    unit = serializers.CharField(max_length=LONGEST_UNIT, help_text="The installation's id, as its app shows it.")


class ForgottenSerializer(serializers.Serializer[Forgotten]):
    events = serializers.IntegerField()
    exposures = serializers.IntegerField(help_text="What became of it, in each phase of each experiment.")
    waiting = serializers.IntegerField(help_text="Batches that were not stored yet.")
    overrides = serializers.IntegerField()
    pins = serializers.IntegerField(help_text="With its entries as a test device, and keys that it attested.")


class ForgetUnitView(NounView):
    """The unit stands in the body: addresses are logged."""

    verbs = {
        "POST": Verb(
            summary="Delete everything that is kept of one installation",
            role=Role.ADMINISTRATOR,
            body=ForgetBody,
            answer=ForgottenSerializer,
            idempotent=True,
        )
    }

    def post(self, request: Request) -> Response:
        wanted: dict[str, Any] = self.body(request)
        with event_stream() as stream:
            found = forget_unit(
                application=self.application,
                unit=wanted["unit"],
                stream=stream,
                actor=self.actor(request),
                now=timezone.now(),
            )
        return self.shown(request, found)
