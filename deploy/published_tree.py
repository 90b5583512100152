"""The signed tree of all applications, in a folder or a bucket, as the environment says. Imports no Django."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from botocore.session import get_session  # type: ignore[import-untyped]

from deploy import env
from distribution.device_plane.s3_tree import S3Tree
from distribution.device_plane.tree import LocalTree, TreeReader
from registry.storage_urls import CloudFront, Credentials, S3Location


def published_tree(store: env.ParsedUrl) -> TreeReader:
    """Of a store with scheme `file` or `s3`. Raises `EnvError`."""
    return s3_tree(store) if store.scheme == "s3" else LocalTree(Path(store.path) / "tree")


def s3_tree(url: str) -> S3Tree:
    """Raises `EnvError`."""
    return S3Tree(
        location(url),
        credentials(),
        httpx.Client(timeout=httpx.Timeout(10.0), trust_env=False),
        clock=lambda: datetime.now(UTC),
        lifetime=timedelta(
            seconds=env.seconds("AEROGRAM_DOWNLOAD_URL_SECONDS", 6 * 3600, minimum=60, maximum=7 * 86_400)
        ),
        front=cloudfront(),
    )


def location(url: str) -> S3Location:
    try:
        return S3Location.parse(url)
    except ValueError as error:
        raise env.EnvError("BLOB_STORE_URL", expected="an address of a bucket", got=str(error)) from error


def credentials() -> Callable[[], Credentials]:
    """As every AWS tool finds them: variables, files, the role of the machine. Fetched anew before they end."""
    found: Any = get_session().get_credentials()
    if found is None:
        raise env.EnvError("AWS_ACCESS_KEY_ID", expected="credentials for the bucket, here or by a role", got="none")

    def current() -> Credentials:
        frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, getattr(found, "_expiry_time", None))

    return current


def cloudfront() -> CloudFront | None:
    """None without AEROGRAM_CLOUDFRONT_URL: then phones are sent to the bucket."""
    url = env.url("AEROGRAM_CLOUDFRONT_URL", None, schemes=("https", "http"))
    if url is None:
        return None
    key_file = Path(env.text("AEROGRAM_CLOUDFRONT_KEY_FILE"))
    try:
        return CloudFront.load(url, env.text("AEROGRAM_CLOUDFRONT_KEY_ID"), key_file.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise env.EnvError("AEROGRAM_CLOUDFRONT_KEY_FILE", expected="a private RSA key", got=str(error)) from error
