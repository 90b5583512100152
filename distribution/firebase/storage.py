"""What an application's bucket holds: uploads, under the names that `gs://` addresses give them."""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from distribution.firebase import wire
from distribution.firebase.crc32c import Crc32c
from distribution.firebase.errors import FirebaseInvalid
from distribution.firebase.services import Source
from distribution.models import FirebaseObject, FirebaseUploadSession
from registry.blob_store import blob_store
from registry.models import Application, Upload
from registry.services import receive_upload

LONGEST_NAME = 1024
SESSION_LIFE = timedelta(days=1)  # as long as the blob store keeps what nobody went on with
LONGEST_FILE_NAME = 255
_BY_ID = re.compile(r"uploads/([0-9]{1,18})")


def put_object(
    *, application: Application, name: str, chunks: Iterable[bytes], user: User | None, now: datetime
) -> FirebaseObject:
    """Take the bytes as an upload. An object of the name is replaced; what was made of it stays.

    Raises `FirebaseInvalid`, `UploadTooLarge`, `UploadEmpty`.
    """
    require_object_name(name)
    crc32c, md5 = Crc32c(), hashlib.md5(usedforsecurity=False)

    def summed() -> Iterator[bytes]:
        for chunk in chunks:
            crc32c.update(chunk)
            md5.update(chunk)
            yield chunk

    upload = receive_upload(
        application=application,
        chunks=summed(),
        file_name=name.rpartition("/")[2][-LONGEST_FILE_NAME:],
        expected_sha256=None,
        user=user,
        now=now,
    )
    row, _ = FirebaseObject.objects.update_or_create(
        application=application,
        name=name,
        defaults={
            "upload": upload,
            "crc32c": crc32c.base64,
            "md5": b64encode(md5.digest()).decode(),
            "created_at": now,
        },
    )
    return row


def find_source(application: Application, uri: str) -> Source:
    """The upload that a model's address names: an object, `uploads/<id>`, or the newest upload of the file name.

    Raises `FirebaseInvalid`.
    """
    try:
        bucket, name = wire.bucket_and_object(uri)
    except ValueError as error:
        raise FirebaseInvalid(f"tfliteModel.gcsTfliteUri: {error}", field="tfliteModel.gcsTfliteUri") from error
    upload = find_upload(application, name) if wire.application_of_bucket(bucket) == application.slug else None
    if upload is None:
        expected = f"expected an object of gs://{application.slug} or an upload to {application}"
        raise FirebaseInvalid(f"tfliteModel.gcsTfliteUri: {expected}, got gs://{bucket}/{name}"[:500])
    return Source(upload, f"gs://{bucket}/{name}")


def find_upload(application: Application, name: str) -> Upload | None:
    found = application.firebase_objects.filter(name=name).select_related("upload__artifact").first()
    if found is not None:
        return found.upload
    uploads = application.uploads.select_related("artifact")
    by_id = _BY_ID.fullmatch(name)
    if by_id:
        return uploads.filter(pk=int(by_id[1])).first()
    return uploads.filter(file_name=name).order_by("-pk").first()


def require_object_name(name: str) -> None:
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        expected = f"an object name of 1 to {LONGEST_NAME} printable characters"
        raise FirebaseInvalid(f"name: expected {expected}, got {name[:80]!r}", field="name")


# -- resumable uploads: pieces wait in staging until the last one has come


def begin_session(*, application: Application, name: str, now: datetime) -> FirebaseUploadSession:
    require_object_name(name)
    return FirebaseUploadSession.objects.create(
        application=application, token=secrets.token_urlsafe(32), object_name=name, created_at=now
    )


def add_piece(*, session: FirebaseUploadSession, start: int, chunks: Iterable[bytes]) -> FirebaseUploadSession:
    """Append bytes that begin at `start`. Raises `FirebaseInvalid` unless that is where the last piece ended."""
    if start != session.received_bytes:
        raise FirebaseInvalid(f"Content-Range: expected a piece from byte {session.received_bytes}, got {start}")
    most_bytes = settings.AEROGRAM_MAX_UPLOAD_BYTES - session.received_bytes
    staged = blob_store().stage(chunks, max_bytes=most_bytes)
    with transaction.atomic():
        row = FirebaseUploadSession.objects.select_for_update().get(pk=session.pk)
        if row.received_bytes != start:
            blob_store().discard(staged)
            raise FirebaseInvalid(f"Content-Range: expected a piece from byte {row.received_bytes}, got {start}")
        row.parts = [*row.parts, staged.key]
        row.received_bytes += staged.size_bytes
        row.save()
    return row


def finish_session(*, session: FirebaseUploadSession, user: User | None, now: datetime) -> FirebaseObject:
    """Make one object of the pieces and forget the session."""
    storage = blob_store().storage
    row = put_object(
        application=session.application,
        name=session.object_name,
        chunks=chain.from_iterable(storage.chunks(key) for key in session.parts),
        user=user,
        now=now,
    )
    discard_session(session)
    return row


def forget_sessions(*, now: datetime) -> None:
    """Those that nobody went on with for a day; the store sweeps their pieces."""
    FirebaseUploadSession.objects.filter(created_at__lt=now - SESSION_LIFE).delete()


def discard_session(session: FirebaseUploadSession) -> None:
    for key in session.parts:
        blob_store().storage.delete(key)
    session.delete()
