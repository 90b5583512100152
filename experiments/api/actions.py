"""The verbs of the life cycle, an address each: `POST …/experiments/{experiment}/actions/{verb}`."""

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import services
from experiments.api.access import find_experiment
from experiments.api.serializers import (
    CompleteBody,
    ExperimentSerializer,
    HaltBody,
    PreviewSerializer,
    RampBody,
    ReasonBody,
    SaidBody,
    StartBody,
    SupersedeBody,
    WriteQuery,
)
from experiments.lifecycle import ROLES
from experiments.lifecycle import Verb as Said
from experiments.models import Experiment
from registry.api.base import NounView, Verb
from registry.api.serializers import ROLES as ROLES_BY_NAME
from registry.models import Channel, RegisteredModel

# What each is sent, and what it does in words.
VERBS: dict[Said, tuple[type[SaidBody] | type[ReasonBody], str]] = {
    Said.SUBMIT: (SaidBody, "Ask for approval"),
    Said.APPROVE: (SaidBody, "Approve the start, or going on after a halt; not one's own"),
    Said.REJECT: (ReasonBody, "Send it back to be a draft"),
    Said.START: (StartBody, "Serve its first step, or wait for its time"),
    Said.PAUSE: (ReasonBody, "Stay at the present percentage"),
    Said.RESUME: (SaidBody, "Go on after a pause; ask to go on after a halt"),
    Said.ADVANCE: (SaidBody, "Go to the next step, if the present one's conditions are met"),
    Said.APPROVE_STEP: (SaidBody, "Approve leaving the present step; not one's own"),
    Said.RAMP: (RampBody, "Set the percentage, whatever the plan says"),
    Said.SUPERSEDE: (SupersedeBody, "Put another version in the treatment's place"),
    Said.RERANDOMISE: (ReasonBody, "Draw all units anew"),
    Said.HALT: (HaltBody, "Freeze: nobody else gets the treatment"),
    Said.ROLLBACK: (ReasonBody, "End it; units return to the current release"),
    Said.COMPLETE: (CompleteBody, "End it; the winner becomes the current release"),
    Said.ARCHIVE: (SaidBody, "Put it aside"),
}


class WritingView(NounView):
    """A view whose writes can be tried: `?validate_only=true` does them, looks, and takes them back."""

    def done(self, request: Request, verb: str, row: Experiment, **wanted: Any) -> Response:
        """Say a verb, or try it."""
        now = timezone.now()

        def deed() -> Experiment:
            getattr(services, verb)(experiment=row, actor=self.actor(request), now=now, **wanted)
            return row

        if not self.is_trial(request):
            return self.shown(request, deed())
        return self.tried(request, deed, row.channel, row.model, row)

    def is_trial(self, request: Request) -> bool:
        return bool(self._checked(WriteQuery, request.query_params.dict())["validate_only"])

    def tried(
        self,
        request: Request,
        deed: Callable[[], Experiment],
        channel: Channel,
        model: RegisteredModel,
        of: Experiment | None,
    ) -> Response:
        """Without an ETag: there is no such state."""

        def show(row: Experiment) -> dict[str, Any]:
            return dict(ExperimentSerializer(row, context={"request": request}).data)

        shown, preview = services.preview(deed, show, channel=channel, model=model, now=timezone.now(), of=of)
        return Response(shown | {"preview": PreviewSerializer(preview).data})


class ActionView(WritingView):
    said: Said

    verbs = {}

    def act(self, request: Request, experiment: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_experiment(self.application, experiment)) as row:
            return self.done(request, self.said.value, row, **wanted)


def action_view(said: Said) -> type[ActionView]:
    body, summary = VERBS[said]

    def post(self: ActionView, request: Request, experiment: str) -> Response:
        return self.act(request, experiment)

    verb = Verb(
        summary=summary,
        role=ROLES_BY_NAME[ROLES[said]],
        body=body,
        query=WriteQuery,
        answer=ExperimentSerializer,
        conditional=True,
        idempotent=True,
    )
    return type(f"{said.name.title()}View", (ActionView,), {"post": post, "verbs": {"POST": verb}, "said": said})
