"""The store in a bucket of S3 or a server that speaks its protocol.

A write is new by `If-None-Match: *` where the server honours it, which is tried out once by each process. Elsewhere a
lock of the database and a look (HEAD) before the write make it so, among Aerogram's own processes.
"""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from storages.backends.s3 import S3Storage  # type: ignore[import-untyped]

from registry import errors
from registry.blob_store.keys import STAGING, new_staging_key
from registry.digests import CHUNK_BYTES
from registry.locks import session_lock
from registry.storage_urls import S3Location

PART_BYTES = 8 << 20  # of a multipart upload, and what one upload holds in memory; 10 000 parts are 80 GiB
MOST_AT_ONCE = 5 << 30  # what S3 copies in one request
WRITE_LOCK = 0x41455253  # "AERS": the first half of the advisory lock's key, a hash of the store's key is the second
_ABSENT = ("404", "NoSuchKey", "NotFound", "NoSuchUpload")
_LOST_RACE = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")
_CONFIG = Config(
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 3},
    # Not every server takes trailing checksums; what is stored is read again and hashed anyhow.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class S3BlobStorage(S3Storage):  # type: ignore[misc]
    """django-storages' S3 with the writes that Aerogram needs. `url` as `S3Location.parse` reads it."""

    def __init__(self, url: str, **settings: Any) -> None:
        where = S3Location.parse(url)
        style = "path" if where.endpoint or "." in where.bucket else "virtual"
        super().__init__(
            bucket_name=where.bucket,
            location=where.prefix,
            endpoint_url=where.endpoint,
            region_name=where.region,
            client_config=_CONFIG.merge(Config(s3={"addressing_style": style})),
            **settings,
        )

    @property
    def client(self) -> Any:
        """Of this thread."""
        return self.connection.meta.client

    @cached_property
    def is_conditional(self) -> bool:
        """Whether the server refuses a second write with `If-None-Match: *`."""
        key = self._address(new_staging_key())
        with _translated("the trial of a conditional write"):
            self.client.put_object(**key, Body=b"first")
            try:
                self.client.put_object(**key, Body=b"second", IfNoneMatch="*")
            except ClientError as error:
                if _code(error) not in (*_LOST_RACE, "501", "NotImplemented"):
                    raise
                return _code(error) in _LOST_RACE
            else:
                return False
            finally:
                self.client.delete_object(**key)

    # -- writes

    def write_new(self, key: str, chunks: Iterable[bytes]) -> None:
        with _translated(key):
            parts = _parts(chunks)
            first = next(parts, b"")
            if len(first) == PART_BYTES:
                self._upload(key, chain([first], parts))
                return
            with self._only_new(key) as condition:
                self.client.put_object(**self._address(key), Body=first, **condition)

    def replace(self, key: str, content: bytes) -> None:
        with _translated(key):
            self.client.put_object(**self._address(key), Body=content)

    def link(self, source_key: str, key: str) -> None:
        """The server copies. Copies that race write the same bytes, for keys are content keys."""
        if self.exists(key):
            return
        one_by_one = TransferConfig(multipart_threshold=MOST_AT_ONCE, multipart_chunksize=256 << 20, use_threads=False)
        with _translated(key):
            self.client.copy(self._address(source_key), **self._address(key), Config=one_by_one)

    def _upload(self, key: str, contents: Iterable[bytes]) -> None:
        """In parts, one after the other, so that one part is in memory."""
        address = self._address(key)
        upload = {**address, "UploadId": self.client.create_multipart_upload(**address)["UploadId"]}
        try:
            parts = [self._upload_part(upload, number, content) for number, content in enumerate(contents, start=1)]
            with self._only_new(key) as condition:
                self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # what stays, remove_leftovers finds
                self.client.abort_multipart_upload(**upload)
            raise

    def _upload_part(self, upload: dict[str, str], number: int, content: bytes) -> dict[str, Any]:
        done = self.client.upload_part(**upload, PartNumber=number, Body=content)
        return {"PartNumber": number, "ETag": done["ETag"]}

    @contextmanager
    def _only_new(self, key: str) -> Iterator[dict[str, str]]:
        """What a write must add so that it makes `key`, or fails with `FileExistsError`."""
        if self.is_conditional:
            try:
                yield {"IfNoneMatch": "*"}
            except ClientError as error:
                if _code(error) in _LOST_RACE:
                    raise FileExistsError(key) from error
                raise
            return
        with _write_lock(self._key(key)):
            if self.exists(key):
                raise FileExistsError(key)
            yield {}

    # -- reads

    def chunks(self, key: str) -> Iterator[bytes]:
        with _translated(key):
            body = self.client.get_object(**self._address(key))["Body"]
            with body:
                yield from body.iter_chunks(CHUNK_BYTES)

    def open_blob(self, key: str) -> BinaryIO:
        with _translated(key):
            body = self.client.get_object(**self._address(key))["Body"]
        return cast("BinaryIO", io.BufferedReader(_Body(body, key), CHUNK_BYTES))

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """A private copy, removed at the end."""
        with tempfile.TemporaryDirectory(prefix="aerogram-blob-") as folder:
            path = Path(folder) / "blob"
            with path.open("wb") as file:
                file.writelines(self.chunks(key))
            yield path

    def exists(self, name: str) -> bool:
        with _translated(name):
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with _translated(name):
            super().delete(name)

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _translated(name):
            folders, files = super().listdir(name)
        return folders, files

    # -- tidying

    def remove_leftovers(self, before: datetime) -> int:
        with _translated(STAGING):
            staged = [found for found in self._staged() if found["LastModified"] < before]
            for found in staged:
                self.client.delete_object(Bucket=self.bucket_name, Key=found["Key"])
            uploads = [found for found in self._uploads() if found["Initiated"] < before]
            for found in uploads:
                with suppress(ClientError):  # it ended meanwhile
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket_name, Key=found["Key"], UploadId=found["UploadId"]
                    )
        return len(staged) + len(uploads)

    def _staged(self) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket_name, Prefix=self._key(STAGING) + "/"):
            yield from page.get("Contents", ())

    def _uploads(self) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket_name, Prefix=self._key("")):
            yield from page.get("Uploads", ())

    def _key(self, key: str) -> str:
        return f"{self.location}/{key}" if self.location else key

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket_name, "Key": self._key(key)}


class _Body(io.RawIOBase):
    """A response's body as a raw stream, so that the standard library's buffered reader goes over it."""

    def __init__(self, body: Any, key: str) -> None:
        self._body, self._key = body, key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _translated(self._key):
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PART_BYTES, the last one shorter."""
    part = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            taken = view[: PART_BYTES - len(part)]
            part += taken
            view = view[len(taken) :]
            if len(part) == PART_BYTES:
                yield bytes(part)
                part.clear()
    if part:
        yield bytes(part)


def _write_lock(key: str) -> AbstractContextManager[bool]:
    return session_lock(WRITE_LOCK, int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], signed=True))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Errors of boto as those that every storage raises."""
    try:
        yield
    except ClientError as error:
        if _code(error) in _ABSENT:
            raise FileNotFoundError(key) from error
        raise errors.StoreUnavailable(f"{key}: expected the bucket to take the request, got {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise errors.StoreUnavailable(f"{key}: expected an answer of the object storage, got {error}") from error
