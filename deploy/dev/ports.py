"""Ports of the loopback: whether one is free, who holds it, and how to keep one until its server listens."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from deploy.dev.errors import DevError

LOOPBACK = "127.0.0.1"


def require_free(port: int, *, variable: str, host: str = LOOPBACK) -> None:
    """Refuse a port that something listens on already, naming the variable that moves ours."""
    try:
        _bound(host, port).close()
    except OSError as error:
        raise DevError(
            f"Port {port} on {host} cannot be used: {error.strerror}{_holder(port)}. "
            f"Set {variable} to another port, or stop what uses it."
        ) from None


def reserve(host: str = LOOPBACK) -> tuple[int, socket.socket]:
    """A free port, and the socket that keeps it from being given to others until a server listens on it.

    A bound socket that does not listen does not get in the way of a server that binds with SO_REUSEADDR on Linux.
    """
    held = _bound(host, 0)
    return held.getsockname()[1], held


@contextmanager
def reserved(host: str = LOOPBACK) -> Iterator[int]:
    """A port for a server that starts, and perhaps stops and starts again, in this block: nobody else is given it."""
    port, held = reserve(host)
    with held:
        if sys.platform != "linux":  # elsewhere a reserved port is refused to everybody, the server included
            held.close()
        yield port


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _holder(port: int) -> str:
    with suppress(psutil.Error, PermissionError):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return f" (process {connection.pid}, {psutil.Process(connection.pid).name()})"
    return ""
