"""The signers that this process was given by its settings."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

from distribution.trust.keys import KeyFolder
from distribution.trust.roles import ROOT
from distribution.trust.signers import OFFLINE, Keyring, parse_uris


def online_keys() -> Keyring:
    """Of the control plane: snapshot, timestamp, releases."""
    return Keyring(parse_uris(settings.AEROGRAM_SIGNERS), KeyFolder(Path(settings.AEROGRAM_ONLINE_KEYS_DIR)))


def publisher_keys() -> Keyring | None:
    """Of the signer process: targets, delegated models, and in development root. None when nothing is set."""
    uris = parse_uris(settings.AEROGRAM_SIGNERS)
    folder = settings.AEROGRAM_PUBLISHER_KEYS_DIR
    if not folder and not uris:
        return None
    return Keyring(uris, KeyFolder(Path(folder)) if folder else None)


def readable_root_keys() -> Iterator[str]:
    """Where this process could get at a private key of root: paths and URIs."""
    folders = [settings.AEROGRAM_PUBLISHER_KEYS_DIR, settings.AEROGRAM_ONLINE_KEYS_DIR]
    for folder in filter(None, map(str, folders)):
        yield from (str(path) for path in sorted(Path(folder).glob("*/root*.pem")) if os.access(path, os.R_OK))
    for name, uris in parse_uris(settings.AEROGRAM_SIGNERS).items():
        if name.rpartition("/")[2] == ROOT:
            yield from (uri for uri in uris if _is_reachable(uri))


def _is_reachable(uri: str) -> bool:
    parts = urlsplit(uri)
    if parts.scheme == OFFLINE:
        return False
    return parts.scheme == "awskms" or "{" in parts.path or os.access(unquote(parts.path), os.R_OK)
