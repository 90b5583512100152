"""Find what an address names, and check that the caller may see or change it."""

from django.contrib.auth.models import User
from rest_framework.request import Request

from registry import services
from registry.errors import Invalid, NotAllowed, NotFound
from registry.models import (
    ApiToken,
    Application,
    Channel,
    ConversionJob,
    DeviceClass,
    ModelVersion,
    RegisteredModel,
    Role,
    Variant,
)


def find_application(request: Request, slug: str, role: Role) -> Application:
    """Raises `NotFound`, or `NotAllowed` when the caller has not the role there or the token does not reach so far."""
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise NotFound(f"expected the name of an application, got {slug!r}")
    token = token_of(request)
    if not token.reaches(application):
        raise NotAllowed(f"expected a token for {application}, got one for {token.application}")
    if token.role < role:
        got = Role(token.role).label
        raise NotAllowed(f"expected the role {role.label} in {application}, got a token that goes up to {got}")
    services.require_role(request.user, application, role)
    return application


def require_superuser(request: Request) -> None:
    """Raises `NotAllowed` unless a superuser calls with a token without limits."""
    if not request.user.is_superuser:
        raise NotAllowed("expected a superuser, whom alone this is open to")
    if not token_of(request).is_unscoped:
        raise NotAllowed("expected a token of all applications and the role administrator, got a narrower one")


def token_of(request: Request) -> ApiToken:
    assert isinstance(request.auth, ApiToken)
    return request.auth


def find_channel(application: Application, slug: str) -> Channel:
    channel = application.channels.filter(slug=slug).first()
    if channel is None:
        known = ", ".join(application.channels.values_list("slug", flat=True))
        raise NotFound(f"expected a channel of {application} ({known}), got {slug!r}", field="channel")
    return channel


def find_device_class(application: Application, name: str) -> DeviceClass:
    device_class = application.device_classes.filter(name=name).first()
    if device_class is None:
        raise NotFound(f"expected a device class of {application}, got {name!r}", field="device_class")
    return device_class


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


def find_job(version: ModelVersion, recipe: str) -> ConversionJob:
    job = version.jobs.filter(recipe=recipe).first()
    if job is None:
        raise NotFound(f"expected a recipe asked for {version}, got {recipe!r}", field="recipe")
    return job


def find_variant(version: ModelVersion, name: str) -> Variant:
    variant = version.variants.prefetch_related("files__artifact").filter(name=name).first()
    if variant is None:
        raise NotFound(f"expected a variant of {version}, got {name!r}", field="variant")
    return variant


def find_user(name: str) -> User:
    """Raises `Invalid`: the name stands in a body."""
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise Invalid(f"expected the name of an active user, got {name!r}", field="user")
    return user
