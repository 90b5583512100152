"""What a guided page is about: the channel and the model or version named in its address."""

from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest

from distribution.models import Release
from registry.admin import access
from registry.errors import NotAllowed
from registry.models import Channel, ModelVersion, RegisteredModel, Role
from registry.services import require_role


@dataclass
class Choice:
    """`channels`, `models`, `versions` are what may be chosen; the others what is."""

    channels: list[Channel] = field(default_factory=list)
    models: list[RegisteredModel] = field(default_factory=list)
    versions: list[ModelVersion] = field(default_factory=list)
    channel: Channel | None = None
    model: RegisteredModel | None = None
    version: ModelVersion | None = None


def choose_version(request: HttpRequest) -> Choice:
    """`?version=<id>&channel=<id>`; the newest version first. Raises `NotAllowed` without the role for the choice."""
    channels = release_channels(request)
    applications = {channel.application_id for channel in channels}
    versions = (
        ModelVersion.objects.filter(model__application__in=applications, yanked_at__isnull=True)
        .select_related("model__application", "source")
        .prefetch_related("variants")
        .order_by("model__application", "model__slug", "-number")
    )
    version = _by_id(ModelVersion.objects.select_related("model__application"), request.GET.get("version"))
    if version is not None:
        require_role(request.user, version.model.application, Role.RELEASER)
        channels = [channel for channel in channels if channel.application_id == version.model.application_id]
    channel = _chosen(channels, request.GET.get("channel")) or (channels[0] if version and channels else None)
    return Choice(channels=channels, versions=list(versions), channel=channel, version=version)


def choose_what_is_live(request: HttpRequest) -> Choice:
    """`?what=<channel id>:<model id>`: among models that were ever released to the channel."""
    return _choose_pair(request, Release.objects.filter(live_revision__isnull=False))


def choose_what_to_stop(request: HttpRequest) -> Choice:
    """As above, but any model of the application may be stopped: devices may have one from elsewhere."""
    return _choose_pair(request, None)


def _choose_pair(request: HttpRequest, released: object) -> Choice:
    channels = release_channels(request)
    rows = RegisteredModel.objects.filter(application__in={channel.application_id for channel in channels})
    if released is not None:
        rows = rows.filter(Exists(Release.objects.filter(model_version__model=OuterRef("pk"), live_revision__gt=0)))
    models = list(rows.select_related("application"))
    channel_id, _, model_id = request.GET.get("what", "").partition(":")
    channel = _chosen(channels, channel_id)
    model = next((row for row in models if str(row.pk) == model_id), None)
    if channel is None and channel_id.isdigit():
        named = Channel.objects.select_related("application").filter(pk=channel_id).first()
        if named is not None:
            require_role(request.user, named.application, Role.RELEASER)
    if channel and model and channel.application_id != model.application_id:
        model = None
    return Choice(channels=channels, models=models, channel=channel, model=model)


def release_channels(request: HttpRequest) -> list[Channel]:
    """Of the applications in which the user may release. Raises `NotAllowed` when there is none."""
    found = list(
        Channel.objects.filter(application__in=access.applications(request, Role.RELEASER))
        .select_related("application")
        .order_by("application__slug", "slug")
    )
    if not found and not access.is_superuser(request):
        raise NotAllowed("expected the role releaser in an application, got none")
    return found


def _chosen(channels: list[Channel], pk: str | None) -> Channel | None:
    return next((channel for channel in channels if str(channel.pk) == pk), None)


def _by_id(rows: QuerySet[ModelVersion], pk: str | None) -> ModelVersion | None:
    return rows.filter(pk=pk).first() if pk and pk.isdigit() else None
