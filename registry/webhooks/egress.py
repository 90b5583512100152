"""Where a webhook may go, and the way there.

The address is a member's, the network is ours: without a guard a webhook would read the cloud's metadata service or
speak to a database. Checking the name beforehand is not enough, because the name may resolve to something else a
moment later; so the guard sits where the connection is made, and connects to the very address that it checked.
"""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore

Resolve = Callable[[str, int], list[str]]
TIMEOUT_SECONDS = 15.0  # the specification advises 15 to 30
MOST_ANSWER_BYTES = 2048  # of the answer, kept to show
MOST_URL_CHARACTERS = 2000
# "64:ff9b::/96" and "2002::/16" carry IPv4 addresses inside, private ones too.
_CARRIERS = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32"))


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
    """False for private, loopback, link-local, shared, multicast, reserved and translated addresses."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif any(found in network for network in _CARRIERS):
            return False
    return found.is_global and not found.is_multicast


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
) -> Answer:
    """POST the text, follow no redirect. Raises `Undelivered` when no answer came, whatever the reason."""
    backend = _GuardedBackend(resolve, allow_private=allow_private)
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
    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        super().__init__()
        self._resolve, self._allow_private = resolve, allow_private

    def connect_tcp(self, host: str, port: int, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to a checked address; TLS still asks for the certificate of the name."""
        addresses = [host] if _address(host) is not None else self._resolve(host, port)
        if not self._allow_private:
            refused = [address for address in addresses if not is_public(address)]
            if refused:
                raise AddressRefused(f"expected a public address, {host} is {refused[0]}")
        return super().connect_tcp(addresses[0], port, *arguments, **options)

    def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise AddressRefused(f"expected a host, got the socket {path}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
