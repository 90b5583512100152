"""The signed tree in a bucket, read over plain HTTP with presigned addresses; phones fetch the files there themselves.

What passes through the device plane is small (metadata, catalogs, lists); model files are answered with a redirect.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from xml.etree import ElementTree as ET

import httpx

from distribution.catalog import NAME
from distribution.device_plane.tree import TIMESTAMP, safe_path
from registry.storage_urls import LIFETIME, CloudFront, Credentials, S3Location, presign

OWN_LIFETIME = timedelta(minutes=5)  # of addresses that the device plane uses itself
MOST_LISTING_BYTES = 4 << 20
MOST_SIZES = 4096
_DOWNLOADS = "blobs/"
_IDENTITY = {"Accept-Encoding": "identity"}


class S3Tree:
    """`tree/` below the location's prefix. `location` as this process reaches it; phones are sent to its public one.

    `credentials` is asked each time, for those of a machine's role change by the hour. A store that does not answer
    is an `OSError`, as of a disk.
    """

    CHUNK_BYTES = 256 * 1024

    def __init__(
        self,
        location: S3Location,
        credentials: Callable[[], Credentials],
        http: httpx.Client,
        *,
        clock: Callable[[], datetime],
        lifetime: timedelta = LIFETIME,
        front: CloudFront | None = None,
    ) -> None:
        self.location, self.credentials, self.http = location, credentials, http
        self.clock, self.lifetime, self.front = clock, lifetime, front
        self._sizes = _Sizes()

    def applications(self) -> list[str]:
        prefix, names, token = self.location.key("tree/"), list[str](), ""
        while True:
            listed = self._list(prefix, token)
            found = (each.text or "" for each in listed.iterfind("{*}CommonPrefixes/{*}Prefix"))
            names += [name for each in found if NAME.fullmatch(name := each.removeprefix(prefix).rstrip("/"))]
            token = listed.findtext("{*}NextContinuationToken") or ""
            if not token:
                return sorted(names)

    def fingerprint(self, application: str) -> object | None:
        try:
            answer = self._head(self._key(application, TIMESTAMP))
        except FileNotFoundError:
            return None
        return answer.headers.get("etag"), answer.headers.get("last-modified"), answer.headers.get("content-length")

    def read(self, application: str, path: str, most_bytes: int) -> bytes:
        return self._read(self._own_url(self._key(application, path)), f"{application}/{path}", most_bytes)

    def open(self, application: str, path: str) -> "S3File":
        key = self._key(application, path)
        return S3File(self, key, self._size(key))

    def url(self, application: str, path: str) -> str | None:
        if not path.startswith(_DOWNLOADS):
            return None
        key = self._key(application, path)
        self._size(key)  # a redirect to nothing would be the bucket's 404, or its 403
        now = self.clock()
        if self.front is not None:
            return self.front.sign(f"{application}/{path}", now=now, lifetime=self.lifetime)
        return presign(self.location.public, key, self.credentials(), now=now, lifetime=self.lifetime)

    def chunks(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) of an object."""
        got = start
        headers = {**_IDENTITY, "Range": f"bytes={start}-{end - 1}"}
        with _as_os_error(key), self.http.stream("GET", self._own_url(key), headers=headers) as answer:
            # Some servers that speak S3 send the range with 200; what they sent, Content-Range tells.
            _require(answer, key, httpx.codes.PARTIAL_CONTENT, httpx.codes.OK)
            sent = answer.headers.get("content-range", "")
            if not sent.startswith(f"bytes {start}-{end - 1}/"):
                raise OSError(f"{key}: expected bytes {start}-{end - 1}, got {sent or 'all of it'}")
            for chunk in answer.iter_raw(self.CHUNK_BYTES):
                got += len(chunk)
                yield chunk
        if got != end:
            raise OSError(f"{key}: expected {end} bytes, got {got}")

    def _size(self, key: str) -> int:
        size = self._sizes.get(key)
        if size is None:
            size = int(self._head(key).headers["content-length"])
            if f"/{_DOWNLOADS}" in key:  # others are not named by their content
                self._sizes.put(key, size)
        return size

    def _head(self, key: str) -> httpx.Response:
        with _as_os_error(key):
            answer = self.http.head(self._own_url(key, method="HEAD"), headers=_IDENTITY)
        _require(answer, key, httpx.codes.OK)
        return answer

    def _list(self, prefix: str, token: str) -> ET.Element:
        query = {"list-type": "2", "delimiter": "/", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        text = self._read(self._own_url("", query=query), prefix, MOST_LISTING_BYTES)
        try:
            return ET.fromstring(text)  # noqa: S314 - written by the storage service
        except ET.ParseError as error:
            raise OSError(f"{prefix}: expected a listing, got {error}") from error

    def _read(self, url: str, name: str, most_bytes: int) -> bytes:
        data = b""
        with _as_os_error(name), self.http.stream("GET", url, headers=_IDENTITY) as answer:
            _require(answer, name, httpx.codes.OK)
            for chunk in answer.iter_raw(self.CHUNK_BYTES):
                data += chunk
                if len(data) > most_bytes:
                    raise ValueError(f"{name}: expected at most {most_bytes} bytes, got more")
        return data

    def _own_url(self, key: str, *, method: str = "GET", query: dict[str, str] | None = None) -> str:
        return presign(
            self.location,
            key,
            self.credentials(),
            now=self.clock(),
            lifetime=OWN_LIFETIME,
            method=method,
            query=query,
        )

    def _key(self, application: str, path: str) -> str:
        if not (NAME.fullmatch(application) and safe_path(path)):
            raise FileNotFoundError(f"{application}/{path}")
        return self.location.key(f"tree/{application}/{path}")


class S3File:
    """An object of which nothing was read yet."""

    def __init__(self, tree: S3Tree, key: str, size: int) -> None:
        self._tree, self._key = tree, key
        self.size = size
        self.path: str | None = None

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        return self._tree.chunks(self._key, start, end) if start < end else iter(())

    def close(self) -> None:
        """Nothing is held."""


class _Sizes:
    """Sizes of objects that never change, the least used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> int | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: str, size: int) -> None:
        with self._lock:
            self._known[key] = size
            if len(self._known) > MOST_SIZES:
                self._known.popitem(last=False)


def _require(answer: httpx.Response, name: str, *statuses: int) -> None:
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise FileNotFoundError(name)
    if answer.status_code not in statuses:
        raise OSError(f"{name}: expected {statuses[0]} from the object storage, got {answer.status_code}")


@contextmanager
def _as_os_error(name: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise OSError(f"{name}: expected an answer of the object storage, got {error!r}") from error
