"""The TUF roles of an application, who holds their keys and how long their signatures last."""

from datetime import datetime, timedelta

ROOT = "root"
TARGETS = "targets"
SNAPSHOT = "snapshot"
TIMESTAMP = "timestamp"

# Where the signature's life is half over, online roles are signed again (architecture.md).
LIFETIMES = {
    ROOT: timedelta(days=365),
    TARGETS: timedelta(days=180),
    SNAPSHOT: timedelta(days=14),
    TIMESTAMP: timedelta(days=7),
}
RELEASES_LIFETIME = timedelta(days=14)


def releases_role(channel: str) -> str:
    """The delegated role that signs a channel's catalog and manifests."""
    return f"releases-{channel}"


def catalog_path(channel: str) -> str:
    """The catalog's TUF target path, the only one its releases role may sign for."""
    return f"catalogs/{channel}.json"


def lifetime(role: str) -> timedelta:
    return LIFETIMES.get(role, RELEASES_LIFETIME)


def expiry(role: str, now: datetime) -> datetime:
    """When a signature made `now` ends, in whole seconds as TUF requires."""
    return now.replace(microsecond=0) + lifetime(role)


def is_past_half_life(role: str, expires_at: datetime, now: datetime) -> bool:
    return expires_at - now < lifetime(role) / 2
