"""`GET /metrics` in Prometheus' text format, of the applications that the caller's token reaches.

It needs a token, as everything on the control plane does: behind a proxy every caller comes from this machine, so the
address says nothing. Prometheus sends it with `authorization: {credentials_file: …}`.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from distribution.trust.status import trust_status
from experiments.errors import EventsUnavailable
from experiments.event_stream import backlog, event_stream
from registry.api.authentication import TokenAuthentication
from registry.models import Application, Membership

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TITLES = (
    ("aerogram_trust_expiry_days", "Days until a role's signature ends, negative after it."),
    ("aerogram_trust_version", "Version of a role's current metadata."),
    ("aerogram_trust_warnings", "What somebody should do about an application's trust."),
    ("aerogram_publish_requests_pending", "Changes that devices do not see yet."),
    ("aerogram_event_batches_waiting", "Batches of events that the ingester has not stored yet, of all applications."),
    ("aerogram_event_batches_put_aside", "Batches of events that cannot be stored, of all applications."),
)


def metrics(request: HttpRequest) -> HttpResponse:
    try:
        found = TokenAuthentication().authenticate(Request(request))
    except AuthenticationFailed:
        found = None
    if found is None:
        return HttpResponse("expected a token\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    user, token = found
    mine = Membership.objects.filter(user=user).values("application")
    applications = Application.objects.all() if user.is_superuser else Application.objects.filter(pk__in=mine)
    samples = [each for application in applications if token.reaches(application) for each in _samples(application)]
    samples += _event_samples()
    return HttpResponse("".join(_lines(samples)), content_type=CONTENT_TYPE)


class Sample(NamedTuple):
    """One value. `labels` as the format writes them; names and slugs hold nothing that it would have to escape."""

    name: str
    labels: str
    value: float


def _samples(application: Application) -> Iterator[Sample]:
    status = trust_status(application, timezone.now())
    for role in status.roles:
        labels = f'{{application="{application.slug}",role="{role.role}"}}'
        yield Sample("aerogram_trust_expiry_days", labels, role.days_left)
        yield Sample("aerogram_trust_version", labels, role.version)
    pending = application.publish_requests.filter(consumed_at__isnull=True).count()
    labels = f'{{application="{application.slug}"}}'
    yield Sample("aerogram_trust_warnings", labels, len(status.warnings))
    yield Sample("aerogram_publish_requests_pending", labels, pending)


def _event_samples() -> Iterator[Sample]:
    """Nothing while the event stream does not answer, which `absent()` finds: no number is better than an old one."""
    with suppress(EventsUnavailable), event_stream() as stream:
        found = backlog(stream)
        yield Sample("aerogram_event_batches_waiting", "", found.waiting)
        yield Sample("aerogram_event_batches_put_aside", "", found.put_aside)


def _lines(samples: list[Sample]) -> Iterator[str]:
    """The format wants all samples of one name together, below what it means."""
    for name, told in TITLES:
        yield f"# HELP {name} {told}\n# TYPE {name} gauge\n"
        yield from (f"{name}{each.labels} {each.value}\n" for each in samples if each.name == name)
