"""Composition of the device plane: environment in, ASGI application out. Imports no Django.

granian --interface asgi deploy.device_plane:application
"""

import logging
from pathlib import Path

from deploy import env
from distribution.device_plane.app import DevicePlane, create_app
from distribution.device_plane.redis_sink import RedisEventSink
from distribution.device_plane.tree import LocalTree


def build() -> DevicePlane:
    """Reads BLOB_STORE_URL (a folder, in which the publisher keeps `tree/`) and EVENT_STREAM_URL."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    store = env.url("BLOB_STORE_URL", schemes=("file",))
    stream = env.url("EVENT_STREAM_URL", schemes=("redis", "rediss", "unix"))
    return create_app(LocalTree(Path(store.path) / "tree"), RedisEventSink(str(stream)))


application = build()
