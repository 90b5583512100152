"""Composition of the device plane: environment in, ASGI application out. Imports no Django.

python -m deploy.device_server --host 127.0.0.1 --port 8001 --workers 4
"""

import logging
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

from deploy import env
from deploy.published_tree import published_tree
from distribution.device_plane.app import DevicePlane, create_app
from distribution.device_plane.firebase import Facade
from distribution.device_plane.live import LiveLimits
from distribution.device_plane.redis_revisions import RedisRevisions
from distribution.device_plane.redis_sink import RedisEventSink

SHORTEST_URL_KEY_BYTES = 16
FOLDER_REFRESH_SECONDS = 0.3
BUCKET_REFRESH_SECONDS = 5.0  # each look costs a request for every application


def build() -> DevicePlane:
    """Reads BLOB_STORE_URL (a folder or a bucket, in which the publisher keeps `tree/`) and EVENT_STREAM_URL."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and ours carry permissions
    store = env.url("BLOB_STORE_URL", schemes=("file", "s3"))
    stream = env.url("EVENT_STREAM_URL", schemes=("redis", "rediss", "unix"))
    return create_app(
        published_tree(store),
        RedisEventSink(str(stream)),
        facade=facade(),
        revisions=RedisRevisions(str(stream)),
        live=live_limits(),
        refresh_seconds=BUCKET_REFRESH_SECONDS if store.scheme == "s3" else FOLDER_REFRESH_SECONDS,
    )


def live_limits() -> LiveLimits:
    return LiveLimits(
        most=env.integer("AEROGRAM_LIVE_CONNECTIONS", LiveLimits.most, minimum=0),
        most_per_address=env.integer("AEROGRAM_LIVE_PER_ADDRESS", LiveLimits.most_per_address, minimum=1),
        origins=frozenset(env.items("AEROGRAM_LIVE_ORIGINS", [])),
        proxies=tuple(_network(item) for item in env.items("AEROGRAM_TRUSTED_PROXIES", ["127.0.0.1", "::1"])),
    )


def _network(item: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(item)
    except ValueError:
        raise env.EnvError("AEROGRAM_TRUSTED_PROXIES", expected="addresses or networks", got=repr(item)) from None


def facade() -> Facade | None:
    """The Firebase-compatible routes; None without AEROGRAM_URL_KEY, which all workers must share."""
    key = env.text("AEROGRAM_URL_KEY", "")
    if not key:
        return None
    if len(key.encode()) < SHORTEST_URL_KEY_BYTES:
        expected = f"a secret of {SHORTEST_URL_KEY_BYTES} bytes or more"
        raise env.EnvError("AEROGRAM_URL_KEY", expected=expected, got=f"one of {len(key.encode())}")
    return Facade(
        base_url=env.url("AEROGRAM_DEVICE_URL", "http://127.0.0.1:8001", schemes=("http", "https")),
        key=key.encode(),
        channel=env.text("AEROGRAM_FIREBASE_CHANNEL", "production"),
        device_classes=dict(_pair(item) for item in env.items("AEROGRAM_FIREBASE_DEVICE_CLASSES", [])),
        lifetime=timedelta(
            seconds=env.seconds("AEROGRAM_FIREBASE_URL_SECONDS", 6 * 3600, minimum=600, maximum=604_800)
        ),
    )


def _pair(item: str) -> tuple[str, str]:
    application, equals, device_class = (part.strip() for part in item.partition("="))
    if not (application and equals and device_class):
        raise env.EnvError("AEROGRAM_FIREBASE_DEVICE_CLASSES", expected="application=device-class", got=repr(item))
    return application, device_class


application = build()
