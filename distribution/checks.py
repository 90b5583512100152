"""What Django's system check says about trust."""

from typing import Any

from django.conf import settings
from django.core import checks

from distribution.trust.configured import readable_root_keys
from distribution.trust.signers import parse_uris


@checks.register(checks.Tags.security)
def root_key_is_elsewhere(**_: Any) -> list[checks.CheckMessage]:
    """Whoever takes over a server with the root key owns every phone of the application for good."""
    try:
        places = list(readable_root_keys())
    except ValueError:
        return []  # told by the check below
    return [
        checks.Warning(
            f"A private key of root can be read by this process: {place}",
            hint="Move root to keys of people (docs/trust.md), then delete this one.",
            id="aerogram.W001",
        )
        for place in places
    ]


@checks.register(checks.Tags.security)
def signers_are_uris(**_: Any) -> list[checks.CheckMessage]:
    try:
        parse_uris(settings.AEROGRAM_SIGNERS)
    except ValueError as error:
        return [checks.Error(f"AEROGRAM_SIGNERS: {error}", id="aerogram.E001")]
    return []
