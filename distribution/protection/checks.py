"""What Django's system check says about protection. Reads rows: `manage.py check --database default`, and `migrate`."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.db import Error, connections

from distribution.models import AttestationSettings, ContentKey, ModelProtection
from distribution.protection import errors
from distribution.protection.configured import key_encryption_keys


@checks.register(checks.Tags.database)
def protection_is_set_up(databases: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Silent where the tables are not there yet: `migrate` asks before it makes them."""
    try:
        if "default" not in (databases or ()) or not _has_tables():
            return []
        protected = list(ModelProtection.objects.filter(is_on=True).select_related("model__application"))
        return [*_missing_keys(protected), *_open_doors(protected)]
    except Error:
        return []  # a database that is away is told elsewhere


def _has_tables() -> bool:
    names = connections["default"].introspection.table_names()
    tables = {row._meta.db_table for row in (ModelProtection, ContentKey, AttestationSettings)}  # noqa: SLF001
    return tables <= set(names)


def _missing_keys(protected: list[ModelProtection]) -> list[checks.CheckMessage]:
    used = set(ContentKey.objects.values_list("kek_id", flat=True))
    if not protected and not used:
        return []
    try:
        missing = used - key_encryption_keys().ids
    except errors.KeyEncryptionKeyMissing as error:
        told = str(error)
    else:
        if not missing:
            return []
        told = f"content keys are wrapped under {', '.join(sorted(missing))}"
    models = ", ".join(f"{row.model.application}/{row.model}" for row in protected) or "no model any more"
    return [
        checks.Warning(
            f"Protection is on ({models}) and this process lacks a key-encryption key: {told}",
            hint="Set AEROGRAM_KEY_ENCRYPTION_KEYS_FILE for workers and the key service (docs/protection.md).",
            id="aerogram.W002",
        )
    ]


def _open_doors(protected: list[ModelProtection]) -> list[checks.CheckMessage]:
    if settings.DEBUG:
        return []
    rows = AttestationSettings.objects.filter(
        mode=AttestationSettings.Mode.NONE, application__in={row.model.application_id for row in protected}
    )
    return [
        checks.Warning(
            f"Keys of {row.application}'s protected models are given to whoever asks",
            hint="Ask for App Attest or Play Integrity, or silence this if hiding files from CDNs is all you want.",
            id="aerogram.W003",
        )
        for row in rows.select_related("application")
    ]
