"""What the home page tells: live releases, what waits, what is stopped, what converts and what failed."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Max
from django.http import HttpRequest
from django.utils import timezone

from distribution.models import KillSwitch, Release, Revision
from experiments.admin.lines import lines as experiment_lines
from registry.admin import access
from registry.admin.versions import FAILED_STATES, progress
from registry.models import Application, ConversionJob, ModelVersion, PublishRequest, RegisteredModel, Role

PUBLISHING_SLOW = timedelta(seconds=30)
SHOWN_FAILURES = 8


@dataclass
class Line:
    """One model on one channel."""

    model: RegisteredModel
    live: Release | None = None
    waiting: Release | None = None
    switch: KillSwitch | None = None


@dataclass
class Place:
    """One channel of one application."""

    application: Application
    channel: Any
    revision: int | None
    is_slow: bool
    lines: list[Line] = field(default_factory=list)


def state(request: HttpRequest) -> dict[str, Any]:
    applications = list(access.applications(request).prefetch_related("channels"))
    converting = _converting(applications)
    failed = _failed(applications)
    places = [place for application in applications for place in _places(application)]
    lines = [line for place in places for line in place.lines]
    experiments = experiment_lines(applications, timezone.now())
    return {
        "places": places,
        "converting": converting,
        "failed": failed,
        "experiments": experiments,
        "counts": {
            "live": sum(line.live is not None for line in lines),
            "waiting": sum(line.waiting is not None for line in lines),
            "switches": sum(line.switch is not None for line in lines),
            "converting": len(converting),
            "failed": len(failed),
            "attention": sum(line.needs_somebody for line in experiments),
        },
        "has_models": RegisteredModel.objects.filter(application__in=applications).exists(),
        "can_upload": access.holds(request, Role.EDITOR),
        "can_release": access.holds(request, Role.RELEASER),
        "is_member": bool(applications) or access.is_superuser(request),
        "every_seconds": 3 if converting or any(line.waiting for line in lines) else 15,
    }


def _places(application: Application) -> list[Place]:
    revision = Revision.objects.filter(application=application, published_at__isnull=False).aggregate(Max("number"))
    overdue = timezone.now() - PUBLISHING_SLOW
    is_slow = PublishRequest.objects.filter(
        application=application, consumed_at__isnull=True, requested_at__lt=overdue
    ).exists()
    return [
        Place(application, channel, revision["number__max"], is_slow, _lines(channel))
        for channel in application.channels.all()
    ]


def _lines(channel: Any) -> list[Line]:
    """A line for each model that was ever released or stopped on the channel."""
    lines: dict[int, Line] = {}
    states = (Release.State.LIVE, Release.State.WAITING)
    releases = Release.objects.filter(channel=channel, state__in=states).select_related("model_version__model")
    for release in releases.order_by("id"):
        model = release.model_version.model
        line = lines.setdefault(model.pk, Line(model))
        if release.state == Release.State.LIVE:
            line.live = release
        else:
            line.waiting = release
    for switch in channel.kill_switches.filter(lifted_at__isnull=True).select_related("model"):
        lines.setdefault(switch.model_id, Line(switch.model)).switch = switch
    return sorted(lines.values(), key=lambda line: line.model.slug)


def _converting(applications: list[Application]) -> list[dict[str, Any]]:
    busy = ConversionJob.objects.unfinished().filter(version__model__application__in=applications)
    versions = (
        ModelVersion.objects.filter(pk__in=busy.values("version"))
        .select_related("model__application")
        .prefetch_related("jobs")
        .order_by("registered_at")
    )
    return [{"version": version, "progress": progress(list(version.jobs.all()))} for version in versions]


def _failed(applications: list[Application]) -> list[ConversionJob]:
    """Of each model's newest version only: older ones were answered by it."""
    newest = ModelVersion.objects.filter(model__application__in=applications, yanked_at__isnull=True)
    newest = newest.order_by("model_id", "-number").distinct("model_id")
    jobs = ConversionJob.objects.filter(version__in=list(newest.values_list("pk", flat=True)), state__in=FAILED_STATES)
    return list(jobs.select_related("version__model__application").order_by("-finished_at")[:SHOWN_FAILURES])
