"""The few routes of the Cloud Storage JSON API that an upload through google-cloud-storage uses.

`POST /upload/storage/v1/b/{bucket}/o?uploadType=`
    media      the body is the object, `name` stands in the query
    multipart  multipart/related: {"name": …} as JSON, then the object; clients send up to 8 MB so
    resumable  the body is {"name": …}; `Location` names the session, to which pieces are sent by PUT
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from django.http import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from distribution.firebase import storage, wire
from distribution.firebase.answers import GoogleView
from distribution.firebase.errors import FirebaseInvalid, FirebaseModelNotFound
from distribution.models import FirebaseObject, FirebaseUploadSession
from registry.api.base import Verb
from registry.errors import UploadIncomplete
from registry.models import Role

CHUNK_BYTES = 1 << 20
MOST_MULTIPART = 32 << 20
MOST_METADATA = 64 << 10
RESUME_INCOMPLETE = 308
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15}|\*)")
_BOUNDARY = re.compile(r"boundary=\"?([A-Za-z0-9'()+_,./:=?-]{1,70})\"?")


class InBucketView(GoogleView):
    """An application's bucket has its name, also with the endings of Firebase's default buckets."""

    bucket_name = ""

    def dispatch(self, request: Any, *arguments: Any, **names: Any) -> HttpResponseBase:
        self.bucket_name = names.pop("bucket")
        application = wire.application_of_bucket(self.bucket_name)
        return super().dispatch(request, *arguments, **{**names, "application": application})


class BucketView(InBucketView):
    verbs = {"GET": Verb(summary="The bucket", role=Role.VIEWER)}

    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response({"kind": "storage#bucket", "id": self.bucket_name, "name": self.bucket_name})


class ObjectView(InBucketView):
    verbs = {"GET": Verb(summary="What an object is", role=Role.VIEWER)}

    def get(self, request: Request, name: str) -> Response:  # noqa: ARG002
        row = self.application.firebase_objects.filter(name=name).select_related("upload__artifact").first()
        if row is None:
            raise FirebaseModelNotFound(wire.NOT_FOUND)
        return Response(shown(row, self.bucket_name))


class UploadsView(InBucketView):
    verbs = {
        "POST": Verb(summary="Take an object, or begin to", role=Role.EDITOR, takes_bytes=True),
        "PUT": Verb(summary="Take a piece of an object", role=Role.EDITOR, takes_bytes=True),
        "DELETE": Verb(summary="Give a resumable upload up", role=Role.EDITOR),
    }

    def post(self, request: Request) -> Response:
        kind = request.query_params.get("uploadType", "")
        if kind == "media":
            return self._put(request, request.query_params.get("name", ""), body_chunks(request))
        if kind == "multipart":
            metadata, content = read_multipart(request)
            return self._put(request, object_name(request, metadata), [content])
        if kind == "resumable":
            return self._begin(request)
        raise FirebaseInvalid(f"uploadType: expected media, multipart or resumable, got {kind[:40]!r}")

    def put(self, request: Request) -> Response:
        session = self._session(request)
        header = request.headers.get("Content-Range")
        found = _CONTENT_RANGE.fullmatch(header) if header else None
        if header and not found:
            raise FirebaseInvalid(f"Content-Range: expected bytes <first>-<last>/<total or *>, got {header[:80]!r}")
        first, last, total = found.groups() if found else ("0", None, "")
        if first is None:  # only asks how far it has come
            is_whole = total == str(session.received_bytes) and session.parts
            return self._finish(request, session) if is_whole else _incomplete(session)
        session = storage.add_piece(session=session, start=int(first), chunks=body_chunks(request))
        if last is not None and session.received_bytes != int(last) + 1:
            raise UploadIncomplete(f"expected bytes up to {last}, got {session.received_bytes}")
        is_whole = total in ("", str(session.received_bytes))
        return self._finish(request, session) if is_whole else _incomplete(session)

    def delete(self, request: Request) -> Response:
        storage.discard_session(self._session(request))
        return Response(status=204)

    def _begin(self, request: Request) -> Response:
        raw = b"".join(body_chunks(request, MOST_METADATA))
        name = object_name(request, read_metadata(raw) if raw else {})
        session = storage.begin_session(application=self.application, name=name, now=timezone.now())
        query = urlencode({"uploadType": "resumable", "upload_id": session.token})
        location = request.build_absolute_uri(f"{request.path}?{query}")
        return Response({}, headers={"Location": location})

    def _finish(self, request: Request, session: FirebaseUploadSession) -> Response:
        row = storage.finish_session(session=session, user=self._user(request), now=timezone.now())
        return Response(shown(row, self.bucket_name))

    def _put(self, request: Request, name: str, chunks: Any) -> Response:
        row = storage.put_object(
            application=self.application, name=name, chunks=chunks, user=self._user(request), now=timezone.now()
        )
        return Response(shown(row, self.bucket_name))

    def _session(self, request: Request) -> FirebaseUploadSession:
        sessions = FirebaseUploadSession.objects.filter(application=self.application).select_related("application")
        found = sessions.filter(token=request.query_params.get("upload_id", "")).first()
        if found is None:
            raise FirebaseModelNotFound("expected the upload_id of an upload under way")
        return found

    def _user(self, request: Request) -> Any:
        return request.user


def _incomplete(session: FirebaseUploadSession) -> Response:
    received = session.received_bytes
    return Response(status=RESUME_INCOMPLETE, headers={"Range": f"bytes=0-{received - 1}"} if received else {})


def body_chunks(request: Request, most_bytes: int | None = None) -> Iterator[bytes]:
    """The body as it comes. Raises `UploadIncomplete` when it ends too early, `FirebaseInvalid` when it is too long."""
    stream, received = request.stream, 0
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    while stream is not None and (chunk := stream.read(CHUNK_BYTES)):
        received += len(chunk)
        if most_bytes is not None and received > most_bytes:
            raise FirebaseInvalid(f"expected a body of at most {most_bytes} bytes, got more")
        yield chunk
    if received < announced:
        raise UploadIncomplete(f"expected {announced} bytes, as announced, got {received}")


def read_multipart(request: Request) -> tuple[dict[str, Any], bytes]:
    """(metadata, content) of a multipart/related body, RFC 2387."""
    boundary = _BOUNDARY.search(request.headers.get("Content-Type", ""))
    if boundary is None:
        raise FirebaseInvalid("Content-Type: expected multipart/related with a boundary")
    body = b"".join(body_chunks(request, MOST_MULTIPART))
    delimiter = b"--" + boundary[1].encode()
    first, _, rest = body.partition(delimiter)[2].partition(b"\r\n" + delimiter)
    content, end, _ = rest.rpartition(b"\r\n" + delimiter + b"--")
    if not end:
        raise FirebaseInvalid("expected metadata and content between three boundaries, got fewer")
    return read_metadata(first.partition(b"\r\n\r\n")[2]), content.partition(b"\r\n\r\n")[2]


def read_metadata(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FirebaseInvalid(f"expected an object's metadata as JSON: {error}") from error
    if not isinstance(document, dict):
        raise FirebaseInvalid("expected an object's metadata as a JSON object")
    return document


def object_name(request: Request, metadata: dict[str, Any]) -> str:
    name = metadata.get("name", request.query_params.get("name", ""))
    if not isinstance(name, str):
        raise FirebaseInvalid("name: expected a string", field="name")
    return name


def shown(row: FirebaseObject, bucket: str) -> dict[str, Any]:
    at = wire.milliseconds(row.created_at)
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{row.name}/{row.upload_id}",
        "selfLink": f"/storage/v1/b/{bucket}/o/{quote(row.name, safe='')}",
        "name": row.name,
        "bucket": bucket,
        "generation": str(row.upload_id),
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "size": str(row.upload.artifact.size_bytes),
        "md5Hash": row.md5,
        "crc32c": row.crc32c,
        "timeCreated": at,
        "updated": at,
    }
