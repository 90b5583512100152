"""What the Firebase ML SDKs of Android and iOS ask for, answered exactly as they read it (docs/protocol.md section 11).

The SDKs hash nothing and verify no signature: this route is a way out of Firebase, not a replacement of the poll.

| asked                                                | answered                                                |
|------------------------------------------------------|---------------------------------------------------------|
| `…/models/{display name}:download`                   | 200 with a signed address; 304 for the hash in hand     |
| the same, nothing released, killed or not for LiteRT | 404 NOT_FOUND                                           |
| `…/files/{sha256}/{name}?expires=…&signature=…`      | the file, a range of it, or a redirect to it            |
| the same after it expired                            | **400**: the only status upon which the SDKs ask again  |
| the same with another signature                      | 403 PERMISSION_DENIED                                   |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from distribution.catalog import HEX_DIGEST, CatalogVariant
from distribution.device_plane.files import Download, Files, Receive, Send
from distribution.device_plane.problems import Problem
from distribution.device_plane.state import AppState, ChannelState
from distribution.firebase import wire
from registry import storage_urls
from registry.device_classes import Selector

RUNTIME = "litert"
# The weights as they were trained, for phones of which nothing is known: what Firebase served too.
PLAIN_VARIANTS = ("tflite-as-is", "tflite-float32")
OCTETS = b"application/octet-stream"
_WORDS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Facade:
    """How the route is set up. `key` signs addresses; every worker needs the same one.

    `device_classes`: by application, the class whose variants its Firebase clients get; see `choose_variant`.
    """

    base_url: str
    key: bytes
    channel: str = "production"
    device_classes: Mapping[str, str] = field(default_factory=dict)
    lifetime: timedelta = storage_urls.LIFETIME

    async def answer(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        *,
        applications: Mapping[str, AppState],
        files: Files,
        now: datetime,
    ) -> None:
        """Answer anything below `/v1beta2/`; refusals have Google's shape."""
        try:
            await self._route(scope, receive, send, applications, files, now)
        except Problem as problem:
            await _send(send, scope, problem.status, _refusal(problem), _own_headers(problem))

    async def _route(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        applications: Mapping[str, AppState],
        files: Files,
        now: datetime,
    ) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise _refused(405, f"expected GET, got {scope['method'][:20]}", {"allow": "GET, HEAD"})
        match scope["path"].split("/"):
            case ["", "v1beta2", "projects", project, "models", asked] if asked.endswith(":download"):
                app = _application(applications, project)
                await self._model_info(scope, send, app, asked.removesuffix(":download"), now)
            case ["", "v1beta2", "projects", project, "files", digest, _] if HEX_DIGEST.fullmatch(digest):
                self._require_signed(scope, now)
                app = _application(applications, project)
                await files.send(scope, receive, send, _download(app, digest))
            case _:
                raise _refused(404, f"nothing is served at {scope['path'][:200]}")

    async def _model_info(
        self, scope: Mapping[str, Any], send: Send, app: AppState, display_name: str, now: datetime
    ) -> None:
        if not wire.DISPLAY_NAME.fullmatch(display_name):
            raise _refused(400, f"model: expected 1 to 32 letters, digits, _ or -, got {display_name[:80]!r}")
        file = self._current_file(app, display_name)
        etag = b'"%s"' % file.sha256.encode()
        in_hand = dict(scope["headers"]).get(b"if-none-match", b"").strip()
        if _names(in_hand, file.sha256):
            # iOS compares bytes: whoever stored another spelling of the hash gets that one back.
            await _send(send, scope, 304, None, [(b"etag", in_hand)])
            return
        expires = (now + self.lifetime).replace(microsecond=0)
        path = f"/v1beta2/projects/{app.application}/files/{file.sha256}/{display_name}.tflite"
        document = {
            "downloadUri": storage_urls.sign(f"{self.base_url.rstrip('/')}{path}", expires, self.key),
            "expireTime": wire.milliseconds(expires),
            "sizeBytes": str(file.length),
            "modelFormat": "TFLITE",
        }
        await _send(send, scope, 200, document, [(b"etag", etag)])

    def _current_file(self, app: AppState, display_name: str) -> "ModelFile":
        slug = wire.slug_of(display_name)
        channel = app.channels.get(self.channel)
        model = channel.catalog.models.get(slug) if channel else None
        if channel is None or model is None or model.kill_switch is not None or model.current is None:
            raise _refused(404, f"{app.application}/{self.channel}: expected a released model {slug}, found none")
        # No installation of Firebase names a unit that lasts: it takes part in nothing and follows that rule.
        variant = None
        if model.no_unit == "current":
            variant = choose_variant(channel, model.versions[model.current], self.device_classes.get(app.application))
        if variant is None:
            raise _refused(404, f"{slug}:{model.current}: expected a variant for the Firebase façade, found none")
        manifest = channel.manifests[variant.manifest.path]
        if "encryption" in json.loads(manifest)["signed"]:
            told = f"{slug}:{model.current}: expected a model that Firebase clients can open, it is encrypted"
            raise _refused(404, told)
        return model_file(manifest)

    def _require_signed(self, scope: Mapping[str, Any], now: datetime) -> None:
        url = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        verdict = storage_urls.verify(url, self.key, now=now)
        if verdict == "expired":
            raise _refused(400, "expected an address in force, got one that has expired; ask for the model again")
        if verdict != "ok":
            raise _refused(403, "expected an address that this server signed, got another one")


@dataclass(frozen=True)
class ModelFile:
    """The one file that a Firebase client loads; `length` in bytes, `sha256` in hex."""

    sha256: str
    length: int


def choose_variant(
    channel: ChannelState, variants: tuple[CatalogVariant, ...], device_class: str | None
) -> CatalogVariant | None:
    """The variant that every Firebase client of the application gets, for its SDK says nothing of the device.

    With a device class: the first of its variants that the version has. Without: `tflite-as-is`, else
    `tflite-float32`, else the first of the fallback class, which is the last one without conditions. Only variants
    for LiteRT count; None when there is none.
    """
    by_name = {variant.name: variant for variant in variants if variant.runtime == RUNTIME}
    classes = channel.catalog.device_classes
    if device_class is not None:
        wanted = [name for found in classes if found.name == device_class for name in found.variants]
    else:
        fallback = next((found.variants for found in reversed(classes) if found.selector == Selector()), ())
        wanted = [*PLAIN_VARIANTS, *fallback]
    return next((by_name[name] for name in wanted if name in by_name), None)


def model_file(manifest: bytes) -> ModelFile:
    """The file that the signed manifest says is to be loaded."""
    signed = json.loads(manifest)["signed"]
    entry = signed["files"][signed["entry"]]
    return ModelFile(entry["sha256"], entry["length"])


def _names(in_hand: bytes, sha256: str) -> bool:
    return in_hand.removeprefix(b"W/").strip(b'"') == sha256.encode()


def _application(applications: Mapping[str, AppState], project: str) -> AppState:
    app = applications.get(project)
    if app is None:
        raise _refused(404, f"project: nothing is published for {project[:80]!r}")
    return app


def _download(app: AppState, digest: str) -> Download:
    path = f"blobs/sha256/{digest[:2]}/{digest}"
    return Download(app.application, path, OCTETS, f'"{digest}"'.encode())


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> Problem:
    return Problem(status, _WORDS.get(status, "INVALID_ARGUMENT"), detail, headers=headers)


def _refusal(problem: Problem) -> dict[str, Any]:
    word = _WORDS.get(problem.status, "INTERNAL" if problem.status >= 500 else "INVALID_ARGUMENT")  # noqa: PLR2004
    return wire.error_body(problem.status, word, problem.detail)


def _own_headers(problem: Problem) -> Headers:
    kept = {name: value for name, value in problem.headers.items() if name != "cache-control"}
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in kept.items()]


async def _send(
    send: Send, scope: Mapping[str, Any], status: int, document: Mapping[str, Any] | None, more: Headers
) -> None:
    """Never compressed and never chunked: a weakened ETag stops iOS, a missing length its progress."""
    body = b"" if document is None else json.dumps(document, separators=(",", ":")).encode()
    headers: Headers = [(b"cache-control", b"no-store, no-transform"), *more]
    if document is not None:
        headers += [
            (b"content-type", b"application/json; charset=UTF-8"),
            (b"content-length", b"%d" % len(body)),
        ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body, "more_body": False})
