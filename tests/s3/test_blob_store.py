"""The blob store against a real S3 server. Writes need the database too: where rclone has no condition, a lock is."""

import hashlib
import os
import sys
import threading
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from botocore.exceptions import ClientError

from registry import errors
from registry.blob_store import blob_key, blob_store
from registry.blob_store import s3 as s3_module
from registry.blob_store.s3 import PART_BYTES
from registry.digests import sha256_of_chunks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.filterwarnings("ignore::ResourceWarning")]
MIB = 1 << 20


def pieces(size_bytes: int):
    """Bytes that differ from piece to piece, a MiB at a time."""
    block = os.urandom(MIB)
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8) + block[8:]


def test_keep_read_and_remove(s3_store, tmp_path):
    staged = s3_store.stage([b"mod", b"el"], max_bytes=5)
    assert not s3_store.exists(staged.sha256)
    s3_store.keep(staged)
    assert (staged.sha256, staged.size_bytes) == (hashlib.sha256(b"model").hexdigest(), 5)
    assert s3_store.exists(staged.sha256)
    assert not s3_store.storage.exists(staged.key)
    with s3_store.open(staged.sha256) as stream:
        assert (stream.read(2), stream.read()) == (b"mo", b"del")
    with s3_store.local_file(staged.sha256) as path:
        assert path.read_bytes() == b"model"
    assert not path.exists()
    s3_store.copy_to(staged.sha256, tmp_path / "a" / "copy")
    assert (tmp_path / "a" / "copy").read_bytes() == b"model"
    assert s3_store.put_file(tmp_path / "a" / "copy").sha256 == staged.sha256, "the same bytes again are as good"


def test_what_is_refused_leaves_nothing(s3_store):
    for chunks, most, digest, error in (
        ([], 1, None, errors.UploadEmpty),
        ([b"xx"], 1, None, errors.UploadTooLarge),
        ([b"x"], 1, "0" * 64, errors.UploadDigestMismatch),
        (pieces(2 * PART_BYTES), PART_BYTES + 1, None, errors.UploadTooLarge),
    ):
        with pytest.raises(error):
            s3_store.stage(chunks, max_bytes=most, expected_sha256=digest)
    assert s3_store.storage.listdir("staging") == ([], [])
    assert not list(s3_store.storage._uploads())


def test_what_is_not_there(s3_store, tmp_path):
    for read in (
        s3_store.open,
        lambda digest: s3_store.local_file(digest).__enter__(),
        lambda digest: s3_store.copy_to(digest, tmp_path / "x"),
    ):
        with pytest.raises(errors.BlobMissing, match="expected blob"):
            read("0" * 64)
    assert not s3_store.exists("0" * 64)
    s3_store.storage.delete("sha256/none")


class TestWriteOnce:
    """rclone does not know If-None-Match, which is noticed; a server that does is the same one behind a condition."""

    def test_noticed(self, s3_store):
        assert not s3_store.storage.is_conditional
        assert s3_store.storage.listdir("staging") == ([], [])

    @pytest.mark.parametrize("size", [10, PART_BYTES + 1])
    def test_a_second_write_is_refused(self, s3_store, size):
        s3_store.storage.write_new("tree/a", [bytes(size)])
        with pytest.raises(FileExistsError):
            s3_store.storage.write_new("tree/a", [b"1" * size])
        assert b"".join(s3_store.storage.chunks("tree/a")) == bytes(size)
        assert not list(s3_store.storage._uploads())

    @pytest.mark.parametrize("size", [10, PART_BYTES + 1])
    def test_of_many_writers_at_once_one_wins(self, s3_store, size):
        """The large size is the one that fails without the lock; small writes are over before the next one looks."""
        from django.db import connection

        won, lost = [], []

        def write(number):
            try:
                s3_store.storage.write_new("tree/race", [bytes([number]) * size])
                won.append(number)
            except FileExistsError:
                lost.append(number)
            finally:
                connection.close()

        threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        assert b"".join(s3_store.storage.chunks("tree/race")) == bytes(won) * size

    @pytest.mark.parametrize("size", [10, PART_BYTES + 1])
    def test_with_a_server_that_has_conditions(self, s3_store, size, monkeypatch):
        storage = s3_store.storage
        conditional(storage, monkeypatch)
        assert storage.is_conditional
        monkeypatch.setattr(s3_module, "_write_lock", None)  # not needed then
        storage.write_new("tree/a", [bytes(size)])
        with pytest.raises(FileExistsError):
            storage.write_new("tree/a", [b"1" * size])
        assert b"".join(storage.chunks("tree/a")) == bytes(size)

    def test_replace_and_link(self, s3_store):
        storage = s3_store.storage
        for content in (b"one", b"two"):
            storage.replace("tree/demo/trust/timestamp.json", content)
            assert b"".join(storage.chunks("tree/demo/trust/timestamp.json")) == content
        storage.link("tree/demo/trust/timestamp.json", "tree/second")
        storage.replace("tree/demo/trust/timestamp.json", b"three")
        storage.link("tree/demo/trust/timestamp.json", "tree/second")
        assert b"".join(storage.chunks("tree/second")) == b"two", "an existing name is left as it is"


def conditional(storage, monkeypatch):
    """Make the server's answers those of one that honours If-None-Match, at the wire's edge of boto."""
    client = storage.client

    def guarded(call):
        def checked(**arguments):
            if arguments.pop("IfNoneMatch", None) == "*":
                try:
                    client.head_object(Bucket=arguments["Bucket"], Key=arguments["Key"])
                except ClientError:
                    return call(**arguments)
                raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
            return call(**arguments)

        return checked

    for name in ("put_object", "complete_multipart_upload"):
        monkeypatch.setattr(client, name, guarded(getattr(client, name)))


def test_leftovers_are_removed_after_a_day(s3_store):
    storage, now = s3_store.storage, datetime.now(UTC)
    storage.write_new("staging/left", [b"half"])
    upload = storage.client.create_multipart_upload(**storage._address("staging/large"))
    storage.client.upload_part(
        **storage._address("staging/large"), UploadId=upload["UploadId"], PartNumber=1, Body=b"x"
    )
    kept = s3_store.stage([b"kept"], max_bytes=4)
    s3_store.keep(kept)
    assert s3_store.remove_leftovers(now=now + timedelta(hours=23)) == 0
    assert s3_store.remove_leftovers(now=now + timedelta(hours=25)) == 2
    assert storage.listdir("staging") == ([], [])
    assert s3_store.exists(kept.sha256)


def test_a_server_that_is_away(s3_server, s3_store):
    s3_store.keep(s3_store.stage([b"model"], max_bytes=5))
    s3_server.stop()
    try:
        with pytest.raises(errors.StoreUnavailable, match="expected an answer"):
            s3_store.stage([b"other"], max_bytes=5)
    finally:
        s3_server.start()
    s3_store.keep(s3_store.stage([b"other"], max_bytes=5))


def test_stored_bytes_that_differ_are_noticed(s3_server, s3_store, monkeypatch):
    """What is hashed is what the server kept, not what was sent."""
    written = s3_store.storage.write_new

    def damaged(key, chunks):
        written(key, chunks)
        s3_store.storage.replace(key, b"mOdel")

    monkeypatch.setattr(s3_store.storage, "write_new", damaged)
    with pytest.raises(errors.UploadDigestMismatch):
        s3_store.stage([b"model"], max_bytes=5, expected_sha256=hashlib.sha256(b"model").hexdigest())


@pytest.mark.parametrize(
    "size_bytes",
    [
        64 * MIB,
        pytest.param(
            1 << 30,
            marks=pytest.mark.skipif(
                not os.environ.get("AEROGRAM_TEST_LARGE"), reason="1 GiB; set AEROGRAM_TEST_LARGE=1"
            ),
        ),
    ],
)
def test_large_uploads_hold_a_few_parts_in_memory(s3_store, size_bytes, capsys):
    assert s3_store.storage.exists("none") is False  # the client is made
    digest = hashlib.sha256()
    process, seen = psutil.Process(), []

    def chunks():
        for chunk in pieces(size_bytes):
            digest.update(chunk)
            seen.append(process.memory_info().rss)
            yield chunk

    staged = s3_store.stage(chunks(), max_bytes=size_bytes)
    s3_store.keep(staged)
    grown_mib = (max(seen) - seen[0]) >> 20
    with capsys.disabled():
        sys.stdout.write(f" [{size_bytes >> 20} MiB: resident memory grew by {grown_mib} MiB] ")
    assert (staged.sha256, staged.size_bytes) == (digest.hexdigest(), size_bytes)
    assert sha256_of_chunks(blob_store().storage.chunks(blob_key(staged.sha256))) == (staged.sha256, size_bytes)
    assert grown_mib < 64
