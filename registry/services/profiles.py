"""Named sets of recipes of a model: what a push produces that names one, or none."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from registry import errors
from registry.models import AuditEntry, ConversionProfile, RegisteredModel
from registry.services.applications import require_slug
from registry.services.conversions.requesting import require_known


def create_profile(
    *, model: RegisteredModel, name: str, recipes: Sequence[str], is_default: bool, actor: str, now: datetime
) -> ConversionProfile:
    """Raises `NameTaken`, `UnknownRecipe`, `Invalid`."""
    require_slug(name, field="name")
    _require_recipes(recipes)
    with transaction.atomic():
        _lock(model)
        if model.profiles.filter(name=name).exists():
            raise errors.NameTaken(f"expected a new profile of {model}, got {name!r}, which exists", field="name")
        if is_default:
            model.profiles.filter(is_default=True).update(is_default=False)
        made = model.profiles.create(name=name, recipes=list(recipes), is_default=is_default)
        _record(made, "create_profile", actor, now, before=None, after=_told(made))
    return made


def replace_profile(
    *, profile: ConversionProfile, recipes: Sequence[str], is_default: bool, actor: str, now: datetime
) -> None:
    """Other recipes under the same name. Versions that were made with it stay as they are. Raises `UnknownRecipe`."""
    _require_recipes(recipes)
    with transaction.atomic():
        _lock(profile.model)
        before = _told(ConversionProfile.objects.get(pk=profile.pk))
        if is_default:
            profile.model.profiles.filter(is_default=True).exclude(pk=profile.pk).update(is_default=False)
        ConversionProfile.objects.filter(pk=profile.pk).update(recipes=list(recipes), is_default=is_default)
        profile.refresh_from_db()
        _record(profile, "replace_profile", actor, now, before=before, after=_told(profile))


def delete_profile(*, profile: ConversionProfile, actor: str, now: datetime) -> None:
    with transaction.atomic():
        _record(profile, "delete_profile", actor, now, before=_told(profile), after=None)
        profile.delete()


def find_profile(model: RegisteredModel, name: str) -> ConversionProfile:
    """Raises `UnknownProfile`: the name stands in a body."""
    found = model.profiles.filter(name=name).first()
    if found is None:
        known = ", ".join(model.profiles.values_list("name", flat=True)) or "none is defined"
        raise errors.UnknownProfile(f"expected a profile of {model} ({known}), got {name!r}", field="profile")
    return found


def recipes_for_push(
    model: RegisteredModel, *, profile: str | None, recipes: Sequence[str] | None
) -> tuple[str, list[str] | None]:
    """(profile's name or empty, recipes or None for those of the default). Raises `UnknownProfile`, `Invalid`."""
    if profile and recipes:
        raise errors.Invalid("expected either recipes or a profile, got both", field="profile")
    if recipes:
        return "", list(recipes)
    found = find_profile(model, profile) if profile else model.profiles.filter(is_default=True).first()
    return (found.name, found.recipes) if found else ("", None)


def _require_recipes(recipes: Sequence[str]) -> None:
    if not recipes:
        raise errors.Invalid("expected at least one recipe, got none", field="recipes")
    require_known(recipes)


def _lock(model: RegisteredModel) -> None:
    """One writer of a model's profiles at a time, or two could become the default."""
    RegisteredModel.objects.select_for_update().get(pk=model.pk)


def _told(profile: ConversionProfile) -> dict[str, Any]:
    return {"recipes": profile.recipes, "is_default": profile.is_default}


def _record(
    profile: ConversionProfile,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=str(profile),
        application=profile.model.application,
        before=before,
        after=after,
    )
