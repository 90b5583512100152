"""Find what an address names, and check that the caller may see or change it."""

from rest_framework.request import Request

from registry import services
from registry.errors import NotFound
from registry.models import Application, Channel, ModelVersion, RegisteredModel, Role


def find_application(request: Request, slug: str, role: Role) -> Application:
    """Raises `NotFound`, or `NotAllowed` when the caller has not the role there."""
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise NotFound(f"expected the name of an application, got {slug!r}")
    services.require_role(request.user, application, role)
    return application


def find_channel(application: Application, slug: str) -> Channel:
    channel = application.channels.filter(slug=slug).first()
    if channel is None:
        known = ", ".join(application.channels.values_list("slug", flat=True))
        raise NotFound(f"expected a channel of {application} ({known}), got {slug!r}", field="channel")
    return channel


def find_model(application: Application, slug: str) -> RegisteredModel:
    model = application.registered_models.filter(slug=slug).first()
    if model is None:
        raise NotFound(f"expected a model of {application}, got {slug!r}", field="model")
    return model


def find_version(model: RegisteredModel, number: int) -> ModelVersion:
    version = model.versions.filter(number=number).first()
    if version is None:
        raise NotFound(f"expected a version of {model}, got {number}", field="version")
    return version
