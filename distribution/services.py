"""The verbs of releasing. REST views, admin actions, commands and tasks all call these.

Each changes rows and asks for a publish in one transaction; what devices see changes when publishing has run.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Max

from distribution import errors
from distribution.models import ChannelSettings, KillSwitch, MinimumReleaseCounter, ModelProtection, Release
from distribution.release_checks import require_shippable
from registry.errors import VersionYanked
from registry.models import Application, AuditEntry, Channel, ModelVersion, PublishRequest, RegisteredModel, Variant
from registry.services import gates
from registry.tasks import enqueue_on_commit


def publish(*, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str = "") -> Release:
    """Release the variants of a version that keep to its model's gates, or whose misses were overridden.

    The publisher signs their files, then devices are offered them. The same version may be released again once it has
    other variants. Raises `ApprovalRequired`, `VersionYanked`, `ConversionsUnfinished`, `NothingToRelease`,
    `GatesMissed`, `AlreadyReleased`.
    """
    needed = settings_of(channel).approvals_required
    if needed:
        raise errors.ApprovalRequired(f"expected a release request: {needed} others must approve what {channel} gets")
    return release_approved(channel=channel, version=version, actor=actor, now=now, reason=reason)


def release_approved(
    *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str = ""
) -> Release:
    """Release what nobody need approve any more. Raises `NoFallback`, `RuntimeTooOld`, `NativeCode`, too."""
    with transaction.atomic():
        newest = _newest_release(channel, version.model)
        allowed = require_releasable(version)
        require_shippable(channel.application, allowed)
        variants = sorted(variant.name for variant in allowed)
        if newest is not None and newest.model_version_id == version.pk and _names(newest) == variants:
            raise errors.AlreadyReleased(f"expected another version than {version}, which {channel} has")
        release = _release(channel, version, variants, actor=actor, now=now, reason=reason)
        _record(release, "publish", before=newest, now=now)
    return release


def release_to_arms(
    *, channel: Channel, version: ModelVersion, variants: list[str], actor: str, now: datetime, reason: str
) -> Release:
    """Let the publisher sign a version for arms of experiments; the channel as a whole is not offered it."""
    with transaction.atomic():
        release = _release(channel, version, variants, actor=actor, now=now, reason=reason, state=Release.State.ARM)
        _record(release, "release_to_arms", before=None, now=now)
    return release


def promote(
    *, channel: Channel, model: RegisteredModel, source: Channel, actor: str, now: datetime, reason: str = ""
) -> Release:
    """Release here what devices of another channel have. Raises `NotReleased`, and as `publish`."""
    return publish(channel=channel, version=live_version(source, model), actor=actor, now=now, reason=reason)


def live_version(channel: Channel, model: RegisteredModel) -> ModelVersion:
    """What devices of the channel have now. Raises `NotReleased`."""
    live = Release.objects.filter(channel=channel, model_version__model=model, state=Release.State.LIVE).first()
    if live is None:
        raise errors.NotReleased(f"expected a live release of {model} on {channel}, found none")
    return live.model_version


def settings_of(channel: Channel) -> ChannelSettings:
    """The channel's own, made with the defaults at first sight."""
    row, _ = ChannelSettings.objects.get_or_create(channel=channel)
    return row


def roll_back(
    *,
    channel: Channel,
    model: RegisteredModel,
    actor: str,
    now: datetime,
    to_version: int | None = None,
    reason: str = "",
) -> Release:
    """Make an earlier release current again, as a new release. Needs no publisher: its files are signed already.

    Without `to_version`: the newest version that was live here before the present one. Raises `NoEarlierRelease`.
    """
    with transaction.atomic():
        newest = _newest_release(channel, model)
        earlier = (
            Release.objects.filter(channel=channel, model_version__model=model, live_revision__isnull=False)
            .exclude(model_version__yanked_at__isnull=False)
            .select_related("model_version__model")
        )
        if newest is not None:
            earlier = earlier.exclude(model_version=newest.model_version).filter(pk__lt=newest.pk)
        if to_version is not None:
            earlier = earlier.filter(model_version__number=to_version)
        target = earlier.first()
        if target is None:
            wanted = "any earlier version" if to_version is None else f"version {to_version}"
            raise errors.NoEarlierRelease(f"expected {wanted} of {model} that was live on {channel}, found none")
        release = _release(
            channel, target.model_version, target.variants, actor=actor, now=now, reason=reason, is_rollback=True
        )
        _record(release, "roll_back", before=newest, now=now)
    return release


def engage_kill_switch(
    *, channel: Channel, model: RegisteredModel, actor: str, now: datetime, reason: str
) -> KillSwitch:
    """Tell the channel's devices to run the model embedded in their app, at once. Raises `KillSwitchEngaged`."""
    with transaction.atomic():
        Channel.objects.select_for_update().get(pk=channel.pk)
        if channel.kill_switches.filter(model=model, lifted_at__isnull=True).exists():
            raise errors.KillSwitchEngaged(f"expected {model} to be served on {channel}, its kill switch is engaged")
        switch = KillSwitch.objects.create(
            channel=channel, model=model, reason=reason, engaged_by=actor, engaged_at=now
        )
        _record_switch(switch, "engage_kill_switch", actor=actor, now=now, reason=reason)
    return switch


def lift_kill_switch(*, channel: Channel, model: RegisteredModel, actor: str, now: datetime, reason: str) -> None:
    """Serve the current release again. Raises `ApprovalRequired`, `KillSwitchNotEngaged`."""
    needed = settings_of(channel).lift_approvals_required
    if needed:
        raise errors.ApprovalRequired(f"expected a request: {needed} others must approve that {channel} serves again")
    lift_approved(channel=channel, model=model, actor=actor, now=now, reason=reason)


def lift_approved(*, channel: Channel, model: RegisteredModel, actor: str, now: datetime, reason: str) -> None:
    """Lift what nobody need approve any more. Raises `KillSwitchNotEngaged`."""
    with transaction.atomic():
        switch = channel.kill_switches.filter(model=model, lifted_at__isnull=True).first()
        engaged = KillSwitch.objects.filter(pk=switch.pk if switch else 0, lifted_at__isnull=True)
        if switch is None or not engaged.update(lifted_at=now, lifted_by=actor):
            raise errors.KillSwitchNotEngaged(f"expected an engaged kill switch for {model} on {channel}, found none")
        _record_switch(switch, "lift_kill_switch", actor=actor, now=now, reason=reason)


def raise_minimum_release_counter(
    *, model: RegisteredModel, value: int, actor: str, now: datetime, reason: str = ""
) -> None:
    """Ask the publisher to forbid files released before counter `value`. Raises `MinimumWouldFall`."""
    with transaction.atomic():
        row, _ = MinimumReleaseCounter.objects.select_for_update().get_or_create(model=model)
        if value <= row.value:
            raise errors.MinimumWouldFall(f"expected more than {row.value}, got {value}", field="value")
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="raise_minimum_release_counter",
            subject=str(model),
            application=model.application,
            before={"minimum": row.value},
            after={"minimum": value},
            reason=reason,
        )
        row.value = value
        row.save(update_fields=["value"])
        request_publish(model.application, f"minimum of {model}", now)


def minimum_release_counter(model: RegisteredModel) -> int:
    """What the publisher was asked for last; 1 where nobody asked."""
    return MinimumReleaseCounter.objects.filter(model=model).values_list("value", flat=True).first() or 1


def request_publish(application: Application, reason: str, now: datetime) -> None:
    """Note that devices should see a change, and run publishing when the transaction stands."""
    from distribution import tasks  # noqa: PLC0415 - tasks call services

    PublishRequest.objects.create(application=application, reason=reason[:200], requested_at=now)
    enqueue_on_commit(tasks.publish_application, application.pk, queue="publish")


def _newest_release(channel: Channel, model: RegisteredModel) -> Release | None:
    # The channel's row lock makes two releases of one model follow one another.
    Channel.objects.select_for_update().get(pk=channel.pk)
    return Release.objects.to_channel().filter(channel=channel, model_version__model=model).first()


def require_releasable(version: ModelVersion) -> list[Variant]:
    """The variants that a release would hold.

    Raises `VersionYanked`, `ConversionsUnfinished`, `NothingToRelease`, `GatesMissed`.
    """
    if version.yanked_at is not None:
        raise VersionYanked(f"expected a version in use, got {version}, which was yanked: {version.yank_reason}")
    unfinished = list(version.jobs.unfinished().values_list("recipe", flat=True))
    if unfinished:
        raise errors.ConversionsUnfinished(f"expected {version} to be converted, still open: {', '.join(unfinished)}")
    verdicts = gates.verdicts(version)
    if not verdicts:
        raise errors.NothingToRelease(f"expected at least one variant of {version}, every conversion failed")
    allowed = [verdict.variant for verdict in verdicts if not verdict.is_blocked]
    missing = gates.missing_from_release(version, allowed)
    if missing or not allowed:
        blocked = [f"{verdict.variant.name} {miss}" for verdict in verdicts for miss in verdict.uncovered]
        told = "; ".join([*map(str, missing), *blocked])
        raise errors.GatesMissed(f"expected {version} to keep to the gates of {version.model}: {told}")
    return allowed


def _names(release: Release) -> list[str]:
    names: list[str] | None = release.variants
    return sorted(names if names is not None else release.model_version.variants.values_list("name", flat=True))


def _release(
    channel: Channel,
    version: ModelVersion,
    variants: list[str] | None,
    *,
    actor: str,
    now: datetime,
    reason: str,
    is_rollback: bool = False,
    state: str = Release.State.WAITING,
) -> Release:
    return Release.objects.create(
        channel=channel,
        model_version=version,
        release_counter=_release_counter(version),
        variants=variants,
        state=state,
        is_protected=_is_protected(version),
        is_rollback=is_rollback,
        reason=reason,
        released_by=actor,
        released_at=now,
    )


def _release_counter(version: ModelVersion) -> int:
    """The version's own counter if it was ever released, else the next of its model."""
    RegisteredModel.objects.select_for_update().get(pk=version.model_id)
    known = version.releases.values_list("release_counter", flat=True).first()
    if known is not None:
        return known
    highest = Release.objects.filter(model_version__model_id=version.model_id).aggregate(Max("release_counter"))
    return (highest["release_counter__max"] or 0) + 1


def _is_protected(version: ModelVersion) -> bool:
    """As it was first released, else as its model says: what was public once gains nothing from being encrypted."""
    known = version.releases.values_list("is_protected", flat=True).first()
    if known is not None:
        return known
    return ModelProtection.objects.filter(model__in=models_within(version), is_on=True).exists()


def models_within(version: ModelVersion) -> list[int]:
    """Ids of the models whose files the version's variants hold: its own, and those of its parts."""
    return [version.model_id, *version.parts.values_list("part__model_id", flat=True)]


def _record(release: Release, verb: str, *, before: Release | None, now: datetime) -> None:
    application = release.channel.application
    AuditEntry.record(
        now=now,
        actor=release.released_by,
        verb=verb,
        subject=str(release),
        application=application,
        before={"version": before.model_version.number} if before else None,
        after={
            "version": release.model_version.number,
            "release_counter": release.release_counter,
            "variants": release.variants,
            **({"is_protected": True} if release.is_protected else {}),
        },
        reason=release.reason,
    )
    request_publish(application, str(release), now)
    if release.is_protected:
        request_encryption(application)


def request_encryption(application: Application) -> None:
    """Files of protected versions wait for it; beat asks again."""
    from distribution import tasks  # noqa: PLC0415 - tasks call services

    enqueue_on_commit(tasks.encrypt_variants, application.pk, queue="publish")


def _record_switch(switch: KillSwitch, verb: str, *, actor: str, now: datetime, reason: str) -> None:
    application = switch.channel.application
    live = Release.objects.filter(
        channel=switch.channel, model_version__model=switch.model, state=Release.State.LIVE
    ).first()
    released = {"kill_switch": "lifted", "served": live.model_version.number if live else None}
    stopped = {"kill_switch": "engaged", "served": "use_embedded"}
    before, after = (released, stopped) if verb == "engage_kill_switch" else (stopped, released)
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=str(switch),
        application=application,
        before=before,
        after=after,
        reason=reason,
    )
    request_publish(application, f"{verb} {switch}", now)
