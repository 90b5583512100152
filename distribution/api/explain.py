"""REST for operators who ask why a phone gets what it gets."""

from rest_framework.request import Request
from rest_framework.response import Response

from distribution import explaining
from distribution.api.serializers import ExplainQuery, ExplanationSerializer
from registry.api.access import find_channel, find_model
from registry.api.base import NounView, Verb
from registry.models import Role


class ExplainView(NounView):
    verbs = {
        "GET": Verb(
            summary="What a poll would be answered, every rule tried and the first that failed",
            role=Role.VIEWER,
            query=ExplainQuery,
            answer=ExplanationSerializer,
        )
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel)
        find_model(self.application, model)
        unit = self.query(request).get("unit") or request.headers.get("Aerogram-Unit")
        told = explaining.explain(found, model, request.META["QUERY_STRING"].encode("latin-1"), unit)
        return self.shown(request, told.to_json())
