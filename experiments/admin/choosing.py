"""What a page is about before it is about a row: a model on a channel, named in its address."""

from typing import NamedTuple

from django.http import HttpRequest

from registry.admin import access
from registry.errors import NotAllowed
from registry.models import Channel, RegisteredModel, Role
from registry.services import require_role


class Pair(NamedTuple):
    channel: Channel
    model: RegisteredModel

    @property
    def key(self) -> str:
        return f"{self.channel.pk}:{self.model.pk}"

    def __str__(self) -> str:
        return f"{self.model} on {self.channel}"


def pairs(request: HttpRequest, role: Role) -> list[Pair]:
    """Every model on every channel of the applications in which the user has the role. Raises `NotAllowed`."""
    applications = access.applications(request, role)
    if not applications and not access.is_superuser(request):
        raise NotAllowed(f"expected the role {role.label} in an application, got none")
    channels = Channel.objects.filter(application__in=applications).select_related("application")
    models = list(RegisteredModel.objects.filter(application__in=applications).select_related("application"))
    return [
        Pair(channel, model)
        for channel in channels.order_by("application__slug", "slug")
        for model in models
        if model.application_id == channel.application_id
    ]


def chosen(request: HttpRequest, found: list[Pair], role: Role) -> Pair | None:
    """`?what=<channel id>:<model id>`, or the only one there is. Raises `NotAllowed` for another's channel."""
    wanted = request.GET.get("what", "")
    pair = next((each for each in found if each.key == wanted), None)
    if pair is None and wanted.partition(":")[0].isdigit():
        named = Channel.objects.select_related("application").filter(pk=wanted.partition(":")[0]).first()
        if named is not None:
            require_role(request.user, named.application, role)
    return pair or (found[0] if len(found) == 1 else None)
