"""What experiments ask of distribution: see `experiments.delivery`, which hands it down without an import upwards.

And what distribution tells them: which release devices have now.
"""

import logging
from collections.abc import Collection
from datetime import datetime

from distribution import services
from distribution.delivery_rules import forget_unit, unit_key
from distribution.models import KillSwitch, Release
from distribution.release_checks import require_shippable
from experiments.errors import DesignRefused
from experiments.services import follow, rollouts_behind
from registry.errors import DomainError
from registry.models import Application, Channel, ModelVersion, RegisteredModel

logger = logging.getLogger(__name__)


class ArmDelivery:
    """Arms are served from releases, whose files the publisher signs. An arm's own release is current nowhere."""

    def current_version(self, channel: Channel, model: RegisteredModel) -> ModelVersion | None:
        releases = Release.objects.to_channel().filter(channel=channel, model_version__model=model)
        newest = releases.filter(model_version__yanked_at=None).select_related("model_version").first()
        return newest.model_version if newest else None

    def offer(self, *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
        """As releasing, but to arms alone. A version that some channel was given needs nothing more.

        Raises `DesignRefused` for one below the model's minimum release counter: it would wait for ever.
        """
        if self.withheld(version.model, [version.number]):
            least = services.minimum_release_counter(version.model)
            wanted = f"a version released as counter {least} or later, the minimum of {version.model}"
            raise DesignRefused(f"expected {wanted}, got {version}", field="version")
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

    def served_version(self, channel: Channel, model: RegisteredModel) -> ModelVersion | None:
        releases = Release.objects.to_channel().filter(channel=channel, model_version__model=model)
        served = releases.filter(model_version__yanked_at=None, live_revision__isnull=False)
        last = served.select_related("model_version").first()
        return last.model_version if last else None

    def is_stopped(self, channel: Channel, model: RegisteredModel) -> bool:
        return KillSwitch.objects.filter(channel=channel, model=model, lifted_at=None).exists()

    def withheld(self, model: RegisteredModel, numbers: Collection[int]) -> list[int]:
        below = Release.objects.filter(
            model_version__model=model,
            model_version__number__in=numbers,
            release_counter__lt=services.minimum_release_counter(model),
        )
        return sorted(set(below.values_list("model_version__number", flat=True)))

    def approvals_required(self, channel: Channel) -> int:
        return services.settings_of(channel).approvals_required

    def unit_key(self, application: Application, unit: str) -> str:
        return unit_key(application, unit)

    def forget_unit(self, application: Application, unit: str, now: datetime) -> int:
        return forget_unit(application, unit, now)

    def request_publish(self, application: Application, reason: str, now: datetime) -> None:
        services.request_publish(application, reason, now)


def follow_releases(application: Application, now: datetime) -> None:
    """Let rollouts have what devices got last as their control. A release that still waits is no control yet.

    Each by itself: one that fails, or was changed meanwhile, is tried again after the next publish.
    """
    live = Release.objects.filter(channel__application=application, state=Release.State.LIVE)
    for release in live.select_related("channel", "model_version__model"):
        version = release.model_version
        if not _is_newest(release):
            continue
        for experiment in rollouts_behind(release.channel, version):
            told = f"{release} is what devices have now" + (f": {release.reason}" if release.reason else "")
            try:
                follow(
                    experiment=experiment,
                    version=version,
                    actor=release.released_by,
                    now=now,
                    reason=told,
                    row_version=experiment.row_version,
                )
            except DomainError as error:
                logger.warning("rollout left behind: experiment=%s release=%s error=%s", experiment, release, error)


def _is_newest(release: Release) -> bool:
    """No other was released since and waits for its signature."""
    later = Release.objects.to_channel().filter(channel=release.channel, pk__gt=release.pk)
    return not later.filter(model_version__model=release.model_version.model, model_version__yanked_at=None).exists()
