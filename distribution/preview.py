"""What each device class would get from a release, before anybody releases it. Reads rows, writes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from distribution.models import Release
from experiments.eligibility import choose_variant
from registry.conversion.recipes import RECIPES
from registry.device_classes import DeviceProfile
from registry.models import Channel, DeviceClass, ModelVersion, RegisteredModel, Variant
from registry.services import releasable_variants

NEWEST_RUNTIME = "9999"  # a device is taken to be up to date; the least version is told beside


@dataclass(frozen=True)
class Offer:
    """One device class with one of its runtimes, now and after. None: no variant that its devices can run."""

    device_class: DeviceClass
    runtime: str
    before: Variant | None
    after: Variant | None

    @property
    def download_bytes(self) -> int:
        return 0 if self.after is None or self.is_same else self.after.size_bytes

    @property
    def size_change_bytes(self) -> int | None:
        if self.before is None or self.after is None:
            return None
        return self.after.size_bytes - self.before.size_bytes

    @property
    def is_same(self) -> bool:
        return self.before is not None and self.after is not None and self.before.tree_digest == self.after.tree_digest

    @property
    def is_lost(self) -> bool:
        """Its devices have a model now and would be offered none."""
        return self.before is not None and self.after is None


def live_release(channel: Channel, model: RegisteredModel) -> Release | None:
    """What devices get now, kill switch aside."""
    return _releases(channel, model).filter(state=Release.State.LIVE).first()


def waiting_release(channel: Channel, model: RegisteredModel) -> Release | None:
    """Recorded, but not yet at devices."""
    newest = _releases(channel, model).first()
    return newest if newest is not None and newest.state == Release.State.WAITING else None


def rollback_targets(channel: Channel, model: RegisteredModel) -> list[Release]:
    """Releases to go back to, newest first, each version once; the same rule as `services.roll_back`."""
    newest = _releases(channel, model).first()
    if newest is None:
        return []
    earlier = _releases(channel, model).filter(live_revision__isnull=False, pk__lt=newest.pk)
    earlier = earlier.filter(model_version__yanked_at__isnull=True).exclude(model_version=newest.model_version)
    found: dict[int, Release] = {}
    for release in earlier:
        found.setdefault(release.model_version_id, release)
    return list(found.values())


def offers(channel: Channel, before: Release | ModelVersion | None, after: Release | ModelVersion) -> list[Offer]:
    """A line for each device class in the order they are tried, and for each runtime the class may have.

    `after` is a version that would be released, of which blocked variants stay out, or a release to go back to.
    """
    now, then = _variants(before), _variants(after)
    return [
        Offer(device_class, runtime, _choice(now, device_class, runtime), _choice(then, device_class, runtime))
        for device_class in channel.application.device_classes.all()
        for runtime in _runtimes(device_class)
    ]


def _releases(channel: Channel, model: RegisteredModel) -> QuerySet[Release]:
    rows = Release.objects.to_channel().filter(channel=channel, model_version__model=model)
    return rows.select_related("model_version__model", "channel__application")


def _variants(offered: Release | ModelVersion | None) -> Sequence[Variant]:
    if isinstance(offered, ModelVersion):
        return releasable_variants(offered)
    if offered is None:
        return ()
    return [variant for variant in offered.model_version.variants.all() if offered.holds(variant.name)]


def _runtimes(device_class: DeviceClass) -> Iterator[str]:
    """Those the selector asks for, else those of the variants it prefers."""
    asked = device_class.as_rule().selector.runtime
    preferred = (RECIPES[name].runtime for name in device_class.variants if name in RECIPES)
    yield from dict.fromkeys(asked or preferred)


def _choice(variants: Sequence[Variant], device_class: DeviceClass, runtime: str) -> Variant | None:
    profile = DeviceProfile(os="", runtime=runtime, runtime_version=NEWEST_RUNTIME)
    return choose_variant(variants, profile, device_class.as_rule())
