"""The device plane in its server: `python -m deploy.device_server --port 8001 --workers 4`.

Each worker is a process of its own with the state of all applications in its memory; they share the listening socket.
"""

import click
import uvicorn
from uvicorn.supervisors import Multiprocess

from distribution.device_plane.events import MOST_COMPRESSED_BYTES
from distribution.device_plane.http_protocol import DeviceProtocol

APPLICATION = "deploy.device_plane:application"
GRACE_SECONDS = 10
BACKLOG = 2_048
PING_SECONDS = 60.0
PONG_SECONDS = 30.0


def config(application: object, host: str, port: int, workers: int) -> uvicorn.Config:
    """Nothing of a request is logged: addresses carry what phones state, and headers carry units."""
    return uvicorn.Config(
        application,  # type: ignore[arg-type]
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http=DeviceProtocol,
        ws="websockets-sansio",
        ws_max_size=MOST_COMPRESSED_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(DeviceProtocol.deadlines.idle_seconds),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes any.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that answer.")
def main(host: str, port: int, workers: int) -> None:
    """Serve the device plane."""
    settings = config(APPLICATION, host, port, workers)
    if workers == 1:
        uvicorn.Server(settings).run()
        return
    Multiprocess(settings, sockets=[settings.bind_socket()]).run()


if __name__ == "__main__":
    main()
