"""Where a webhook may go, and the way there.

The address is a member's, the network is ours: without a guard a webhook would read the cloud's metadata service or
speak to a database. Checking the name beforehand is not enough, because the name may resolve to something else a
moment later; so the guard sits where the connection is made, and connects to the very address that it checked.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore

Resolve = Callable[[str, int], list[str]]
Clock = Callable[[], float]
TIMEOUT_SECONDS = 15.0  # for all of it, however slowly the answer drips; the specification advises 15 to 30
MOST_ANSWER_BYTES = 2048  # of the answer, kept to show
MOST_URL_CHARACTERS = 2000
# They carry IPv4 addresses inside, private ones too.
_CARRIERS = (ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32"))
# Whatever lies outside is local, translated or not given out, or becomes so before Python's own tables know it.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Public by their number, and yet what a cloud tells its machines alone: Azure's host and Oracle's former metadata.
_CLOUD_HOSTS = {ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("192.0.0.192")}


class Answer(NamedTuple):
    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """A redirect is none: it is not followed, because it would lead past what the member chose."""
        return 200 <= self.status < 300  # noqa: PLR2004  HTTP's own classes


class Undelivered(Exception):
    """No answer came: `str()` says why."""


class AddressRefused(Undelivered):
    """The name resolves to an address that webhooks must not reach."""


def check_url(url: str, *, allow_private: bool) -> str | None:
    """Why webhooks cannot go there, or None. Names are resolved only when a message is sent."""
    if len(url) > MOST_URL_CHARACTERS or any(character <= " " or character > "~" for character in url):
        return f"expected a URL of at most {MOST_URL_CHARACTERS} printable ASCII characters"
    try:
        parts = urlsplit(url)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete:
        return "expected a URL with the name of a host"
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        return f"expected https://, got {parts.scheme or 'none'}"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "expected a URL without user, password or fragment"
    host = str(parts.hostname)
    if _address(host) is not None and not allow_private and not is_public(host):
        return f"expected a public address, got {host}"
    return None


def is_public(address: str) -> bool:
    """False for private, loopback, link-local, shared, multicast, reserved, translated addresses and a cloud's own."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found not in _GLOBAL_UNICAST or any(found in network for network in _CARRIERS):
            return False
    return found.is_global and not found.is_multicast and found not in _CLOUD_HOSTS


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def send(
    url: str,
    headers: dict[str, str],
    text: str,
    *,
    allow_private: bool,
    resolve: Resolve = resolve,
    tls: ssl.SSLContext | None = None,
    clock: Clock = time.monotonic,
) -> Answer:
    """POST the text, follow no redirect. Raises `Undelivered` when no answer came, whatever the reason."""
    backend = _GuardedBackend(resolve, clock, allow_private=allow_private)
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    try:
        with (
            httpcore.ConnectionPool(ssl_context=tls, network_backend=backend) as pool,
            pool.stream(
                "POST", url, headers=_with_host(url, sent), content=text.encode(), extensions={"timeout": timeouts}
            ) as answer,
        ):
            return Answer(answer.status, _beginning(answer.iter_stream()))
    except AddressRefused:
        raise
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ValueError) as error:
        raise Undelivered(f"{type(error).__name__}: {error}"[:500]) from error


def _with_host(url: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(b"host", urlsplit(url).netloc.encode()), *headers]


def _beginning(chunks: Iterable[bytes]) -> str:
    """Enough to show; the rest is not read, however long it is."""
    found = b""
    for chunk in chunks:
        found += chunk
        if len(found) >= MOST_ANSWER_BYTES:
            break
    return found[:MOST_ANSWER_BYTES].decode(errors="replace").replace("\0", "�")


class _GuardedBackend(httpcore.SyncBackend):
    def __init__(self, resolve: Resolve, clock: Clock, *, allow_private: bool) -> None:
        super().__init__()
        self._resolve, self._clock, self._allow_private = resolve, clock, allow_private

    def connect_tcp(self, host: str, port: int, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to a checked address; TLS still asks for the certificate of the name."""
        addresses = [host] if _address(host) is not None else self._resolve(host, port)
        if not self._allow_private:
            refused = [address for address in addresses if not is_public(address)]
            if refused:
                raise AddressRefused(f"expected a public address, {host} is {refused[0]}")
        ends_at = self._clock() + TIMEOUT_SECONDS
        return _TimedStream(super().connect_tcp(addresses[0], port, *arguments, **options), ends_at, self._clock)

    def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise AddressRefused(f"expected a host, got the socket {path}")


class _TimedStream(httpcore.NetworkStream):
    """Ends at a moment: timeouts of single reads let whoever sends a byte now and then keep a worker for hours."""

    def __init__(self, stream: httpcore.NetworkStream, ends_at: float, clock: Clock) -> None:
        self._stream, self._ends_at, self._clock = stream, ends_at, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  what is left of all of it
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._left())
        return _TimedStream(secured, self._ends_at, self._clock)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self) -> float:
        left = self._ends_at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout(f"expected the whole answer within {TIMEOUT_SECONDS:g} s")
        return left


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
