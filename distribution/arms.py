"""What experiments ask of distribution: see `experiments.delivery`, which hands it down without an import upwards."""

from datetime import datetime

from distribution import services
from distribution.delivery_rules import unit_key
from distribution.models import Release
from distribution.release_checks import require_shippable
from registry.models import Application, Channel, ModelVersion, RegisteredModel


class ArmDelivery:
    """Arms are served from releases, whose files the publisher signs. An arm's own release is current nowhere."""

    def current_version(self, channel: Channel, model: RegisteredModel) -> ModelVersion | None:
        releases = Release.objects.to_channel().filter(channel=channel, model_version__model=model)
        newest = releases.filter(model_version__yanked_at=None).select_related("model_version").first()
        return newest.model_version if newest else None

    def offer(self, *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
        """As releasing, but to arms alone. A version that some channel was given needs nothing more."""
        if Release.objects.filter(channel__application=channel.application, model_version=version).exists():
            return
        allowed = services.require_releasable(version)
        require_shippable(channel.application, allowed)
        services.release_to_arms(
            channel=channel,
            version=version,
            variants=sorted(variant.name for variant in allowed),
            actor=actor,
            now=now,
            reason=reason,
        )

    def make_current(self, *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
        if self.current_version(channel, version.model) != version:
            services.release_approved(channel=channel, version=version, actor=actor, now=now, reason=reason)

    def approvals_required(self, channel: Channel) -> int:
        return services.settings_of(channel).approvals_required

    def unit_key(self, application: Application, unit: str) -> str:
        return unit_key(application, unit)

    def request_publish(self, application: Application, reason: str, now: datetime) -> None:
        services.request_publish(application, reason, now)
