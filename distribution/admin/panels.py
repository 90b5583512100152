"""What a version's page in the registry's admin shows of its releases."""

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from distribution.models import Release
from distribution.services import require_releasable
from registry.admin import access
from registry.errors import DomainError
from registry.models import ModelVersion, Role


def release_panel(request: HttpRequest, version: ModelVersion) -> SafeString:
    """On a version's page: where it is released, and the way to release it."""
    releases = Release.objects.filter(model_version=version).select_related("channel")
    try:
        require_releasable(version)
        why_not = ""
    except DomainError as error:
        why_not = str(error)
    context = {
        "version": version,
        "live": releases.filter(state=Release.State.LIVE),
        "waiting": releases.filter(state=Release.State.WAITING),
        "why_not": why_not,
        "can_release": access.holds(request, Role.RELEASER, version.model.application_id),
    }
    return render_to_string("distribution/_version_panel.html", context, request)
