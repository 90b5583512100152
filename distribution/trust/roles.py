"""The TUF roles of an application, who holds their keys and how long their signatures last."""

from datetime import datetime, timedelta

DEEPEST_FILE = 8  # folders in folders of an .mlpackage, and more
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
# Much more often than it must: a phone that sees no newer timestamp for a day knows that it is held back.
TIMESTAMP_RENEWED_AFTER = timedelta(hours=12)
# Root and targets are signed by people or by their signer on a person's word; nobody else can renew them.
WARNING_DAYS = (60, 30, 7)


def releases_role(channel: str) -> str:
    """The delegated role that signs a channel's catalog and manifests."""
    return f"releases-{channel}"


def model_role(model: str) -> str:
    """The delegated role that signs the files of one model, where the publisher has made one."""
    return f"models-{model}"


def model_paths(model: str) -> list[str]:
    """Patterns of a model's target paths. In TUF `*` does not reach over a slash: one pattern for each depth."""
    return [f"models/{model}/" + "/".join("*" * depth) for depth in range(3, 3 + DEEPEST_FILE)]


def is_publishers(role: str) -> bool:
    return role == TARGETS or role.startswith("models-")


def catalog_path(channel: str) -> str:
    """The catalog's TUF target path, the only one its releases role may sign for."""
    return f"catalogs/{channel}.json"


def lifetime(role: str) -> timedelta:
    if is_publishers(role):
        return LIFETIMES[TARGETS]
    return LIFETIMES.get(role, RELEASES_LIFETIME)


def expiry(role: str, now: datetime) -> datetime:
    """When a signature made `now` ends, in whole seconds as TUF requires."""
    return now.replace(microsecond=0) + lifetime(role)


def is_past_half_life(role: str, expires_at: datetime, now: datetime) -> bool:
    return expires_at - now < lifetime(role) / 2


def is_timestamp_due(expires_at: datetime, now: datetime) -> bool:
    return expires_at - now <= lifetime(TIMESTAMP) - TIMESTAMP_RENEWED_AFTER


def days_left(expires_at: datetime, now: datetime) -> float:
    """Days until a signature ends, negative after it, to a tenth."""
    return round((expires_at - now) / timedelta(days=1), 1)


def warning_step(role: str, expires_at: datetime, now: datetime) -> int | None:
    """Of a role that people must renew: the smallest of 60, 30 and 7 days that is not left any more. 0: expired."""
    if role != ROOT and not is_publishers(role):
        return None
    if expires_at <= now:
        return 0
    return min((step for step in WARNING_DAYS if expires_at - now < timedelta(days=step)), default=None)
