"""Pure: what a webhook's request is made of. Format: Standard Webhooks 1.0, "Webhook signature scheme"."""

import json
import secrets
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks import Webhook as Signature

SECRET_BYTES = 32  # the scheme asks for 24 to 64
RELEASE_PUBLISHED = "release.published"
EVENT_TYPES = {
    RELEASE_PUBLISHED: "devices of a channel get another version",
    "rollout.started": "an experiment or rollout admits its first devices",
    "rollout.advanced": "its share of devices was raised",
    "rollout.held": "it did not go on, and why",
    "rollout.halted": "the treatment is not given to further devices, of all classes or of one",
    "rollout.rolled_back": "devices of the treatment return to the last known good version",
    "rollout.completed": "its treatment is the channel's current release",
    "webhook.test": "somebody asked for it",
}
# The recommendation of the specification; the first attempt is immediate, the last one some three days after it.
RETRY_AFTER = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)


def new_secret() -> str:
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def body(event_type: str, at: datetime, data: Mapping[str, Any]) -> str:
    """The exact text that is stored, signed and sent: signing it anew from values could change a byte."""
    told = {"type": event_type, "timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "data": data}
    return json.dumps(told, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def headers(message_id: str, at: datetime, text: str, keys: Iterable[str]) -> dict[str, str]:
    """`at`: of this attempt, so that a receiver can refuse what was recorded and is played again.

    `keys`: the secrets that hold now, two while one replaces the other; a receiver needs to know one of them.
    """
    moment = at.astimezone(UTC)
    return {
        "content-type": "application/json",
        "user-agent": "Aerogram-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Signature(key).sign(message_id, moment, text) for key in keys),
    }


def retry_after(attempts: int) -> timedelta | None:
    """How long to wait after that many failed attempts (≥ 1); None when there will be no other."""
    return RETRY_AFTER[attempts - 1] if attempts <= len(RETRY_AFTER) else None
