"""Names in the store. Pure."""

import uuid

STAGING = "staging"


def blob_key(sha256: str) -> str:
    """Where the bytes with this digest lie."""
    return f"sha256/{sha256[:2]}/{sha256}"


def new_staging_key() -> str:
    return f"{STAGING}/{uuid.uuid4().hex}"
