"""A device plane in memory: a tree signed by python-tuf with fresh ECDSA keys, the answers of the protocol, and a real
local HTTP server that can be told to misbehave. It shares no code with the server or the SDK, only the documents."""

import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

FOR_A_WEEK = timedelta(days=7)


def in_a_week() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + FOR_A_WEEK


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Release:
    """What the publisher released: the files of one variant of one model version."""

    model: str
    version: int
    variant: str
    files: dict[str, bytes]
    runtime: str = "numpy"
    entry: str = "model.json"
    counter: int = 1
    schema: dict[str, Any] | None = None
    sanity: str | None = None
    tolerance: str = "0.02"
    members: dict[str, Any] = field(default_factory=dict)

    def target(self, path: str) -> str:
        return f"models/{self.model}/{self.version}/{self.variant}/{path}"


class RepositorySimulator:
    """`release` is the publisher's act, `offer` the channel's, `publish` signs all of it and moves the timestamp.

    The signed objects (`root`, `targets`, …) are public: a test changes one and calls `publish` or `sign_*`.
    `static` holds what a CDN would: bytes by path below the application.
    """

    def __init__(self, application: str = "demo", channel: str = "production") -> None:
        self.application, self.channel = application, channel
        self.keys = {name: CryptoSigner.generate_ecdsa() for name in ("root", "targets", "releases", "online")}
        self.cosigners: dict[str, list[CryptoSigner]] = {}
        self.minimum_counters: dict[str, int] = {}
        self.manifest_versions: dict[str, int] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        self.releases: dict[tuple[str, int, str], Release] = {}
        self.static: dict[str, bytes] = {}
        self.poll_after_seconds = 3600
        self.root = Root(expires=in_a_week(), consistent_snapshot=True)
        for role, key in (("root", "root"), ("targets", "targets"), ("snapshot", "online"), ("timestamp", "online")):
            self.root.add_key(self.keys[key].public_key, role)
        self.targets = Targets(expires=in_a_week())
        self.delegated = Targets(expires=in_a_week())
        self.snapshot = Snapshot(expires=in_a_week())
        self.timestamp = Timestamp(expires=in_a_week())
        self._delegate()
        self.sign_root()
        self.publish()

    @property
    def role(self) -> str:
        return f"releases-{self.channel}"

    def _delegate(self) -> None:
        role = DelegatedRole(self.role, [], 1, terminating=True, paths=[f"catalogs/{self.channel}.json"])
        self.targets.delegations = Delegations({}, {self.role: role})
        self.targets.add_key(self.keys["releases"].public_key, self.role)

    # -- the publisher's acts

    def release(self, release: Release) -> Release:
        """List the files in the publisher's targets, and store their bytes."""
        self.releases[release.model, release.version, release.variant] = release
        for path, data in release.files.items():
            target = TargetFile.from_data(release.target(path), data, ["sha256"])
            target.unrecognized_fields["custom"] = {
                "model": release.model,
                "model_version": release.version,
                "variant": release.variant,
                "release_counter": release.counter,
                "minimum_release_counter": self.minimum_counters.get(release.model, 0),
            }
            self.targets.targets[release.target(path)] = target
            self.put_blob(data)
        return release

    def raise_minimum(self, model: str, minimum: int) -> None:
        self.minimum_counters[model] = minimum
        for path, target in self.targets.targets.items():
            if path.startswith(f"models/{model}/"):
                target.unrecognized_fields["custom"]["minimum_release_counter"] = minimum

    def put_blob(self, data: bytes) -> str:
        digest = sha256(data).hexdigest()
        self.static[f"blobs/sha256/{digest}"] = data
        return digest

    # -- the channel's acts

    def offer(self, release: Release, **changes: Any) -> dict[str, Any]:
        """Sign the next manifest of the model and answer polls with it; `changes` overwrite members of `signed`."""
        version = changes.get("version") or self.manifest_versions.get(release.model, 0) + 1
        self.manifest_versions[release.model] = max(version, self.manifest_versions.get(release.model, 0))
        signed = self.manifest(release, version) | changes
        return self.answer(release.model, self.sign_manifest(signed), version=release.version, variant=release.variant)

    def offer_embedded(self, model: str) -> dict[str, Any]:
        version = self.manifest_versions[model] = self.manifest_versions.get(model, 0) + 1
        signed = self._common(model, version) | {
            "directive": "use_embedded",
            "model_version": None,
            "variant": None,
            "release_counter": 0,
            "files": {},
        }
        return self.answer(model, self.sign_manifest(signed), reason="kill_switch")

    def answer(self, model: str, manifest: dict[str, Any] | None, **decision: Any) -> dict[str, Any]:
        """Let polls for the model get this manifest, whatever it is."""
        self.entries[model] = {"decision": {"reason": "current_release", **decision}, "manifest": manifest}
        return self.entries[model]

    def sign_manifest(self, signed: dict[str, Any], key: CryptoSigner | None = None) -> dict[str, Any]:
        signature = (key or self.keys["releases"]).sign(encode_canonical(signed).encode())
        return {"signed": signed, "signatures": [{"keyid": signature.keyid, "sig": signature.signature}]}

    def manifest(self, release: Release, version: int) -> dict[str, Any]:
        files = {
            path: {
                "length": len(data),
                "sha256": sha256(data).hexdigest(),
                "role": "model" if path == release.entry else "sanity" if path == release.sanity else "labels",
                "media_type": "application/octet-stream",
                "target": release.target(path),
            }
            for path, data in release.files.items()
        }
        return self._common(release.model, version) | {
            "model_version": release.version,
            "variant": release.variant,
            "release_counter": release.counter,
            "directive": "install",
            "device_classes": {"any": {"delegate_order": ["cpu"]}},
            "runtime": release.runtime,
            "min_runtime": "",
            "entry": release.entry,
            "files": files,
            "signature_schema": release.schema,
            "sanity": {"path": release.sanity, "tolerance": release.tolerance} if release.sanity else None,
            "policy": {"wifi_only": False, "charging_only": False, "keep_previous": True},
            "lineage": {},
            **release.members,
        }

    def _common(self, model: str, version: int) -> dict[str, Any]:
        return {
            "_type": "aerogram-manifest",
            "spec_version": "1",
            "version": version,
            "expires": stamp(in_a_week()),
            "application": self.application,
            "channel": self.channel,
            "model": model,
        }

    # -- signing

    def publish(self) -> None:
        """Targets, release index, snapshot, timestamp: the timestamp last, as a publisher must."""
        self._index()
        self._next("targets", self.targets, "targets")
        self.sign_delegated()

    def sign_delegated(self) -> None:
        self._next(self.role, self.delegated, "releases")
        self.sign_snapshot()

    def sign_snapshot(self) -> None:
        self.snapshot.version += 1
        self._sign(f"{self.snapshot.version}.snapshot", self.snapshot, "online")
        self.timestamp.snapshot_meta = MetaFile(version=self.snapshot.version)
        self.sign_timestamp()

    def sign_timestamp(self) -> None:
        self.timestamp.version += 1
        self._sign("timestamp", self.timestamp, "online")

    def sign_root(self) -> bytes:
        return self._sign(f"{self.root.version}.root", self.root, "root")

    def root_bytes(self, version: int = 1) -> bytes:
        return self.static[f"trust/{version}.root.json"]

    def _index(self) -> None:
        """The catalog is a target of the releases role; its `custom` says which manifests are current."""
        path = f"catalogs/{self.channel}.json"
        catalog = json.dumps({"_type": "aerogram-catalog", "models": sorted(self.manifest_versions)}).encode()
        target = TargetFile.from_data(path, catalog, ["sha256"])
        target.unrecognized_fields["custom"] = {"manifest_versions": dict(self.manifest_versions)}
        self.delegated.targets = {path: target}
        self.static[f"targets/{target.get_prefixed_paths()[0]}"] = catalog

    def _next(self, role: str, signed: Any, key: str) -> None:
        signed.version += 1
        self._sign(f"{signed.version}.{role}", signed, key)
        self.snapshot.meta[f"{role}.json"] = MetaFile(version=signed.version)

    def _sign(self, name: str, signed: Any, key: str) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(self.keys[key])
        for cosigner in self.cosigners.get(name.partition(".")[2], []):
            metadata.sign(cosigner, append=True)
        self.static[f"trust/{name}.json"] = metadata.to_bytes()
        return self.static[f"trust/{name}.json"]

    # -- answers

    def poll(self, channel: str, models: list[str]) -> bytes:
        del channel  # what it should have been is in the manifest, and that is for the device to notice
        unknown = {"decision": {"reason": "unknown_model"}, "manifest": None}
        body = {
            "poll_after_seconds": self.poll_after_seconds,
            "models": {model: self.entries.get(model, unknown) for model in models},
        }
        return json.dumps(body).encode()

    def file(self, path: str) -> bytes | None:
        found = self.static.get(path)
        target = re.fullmatch(r"targets/(?:.*/)?([0-9a-f]{64})\.[^/]+", path)
        return self.static.get(f"blobs/sha256/{target[1]}") if found is None and target else found


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """`cut`: bytes of the body after which the connection is dropped; None sends all of it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: threading.Event | None = None


Change = Callable[[Answer], Answer]


@dataclass
class Fault:
    """Changes the answers to the next `times` requests whose path contains `part`; for ever if None."""

    part: str
    change: Change
    times: int | None = None

    def applies(self, path: str) -> bool:
        if self.part not in path or self.times == 0:
            return False
        self.times = None if self.times is None else self.times - 1
        return True


def flipped(index: int = 0) -> Change:
    """One bit of one byte differs, lengths do not."""

    def change(answer: Answer) -> Answer:
        body = bytearray(answer.body)
        body[index] ^= 1
        return replace(answer, body=bytes(body))

    return change


def shortened(missing: int) -> Change:
    """A whole, well-formed answer with the last bytes missing."""
    return lambda answer: replace(answer, body=answer.body[:-missing])


def extended(more: bytes, *, announced: bool = True) -> Change:
    """More bytes than there should be; unannounced ones come without a length, until the connection closes."""
    headers = {} if announced else {"Content-Length": ""}
    return lambda answer: replace(answer, body=answer.body + more, headers=answer.headers | headers)


def dropped(after: int = 0) -> Change:
    """The connection breaks after so many bytes of the body."""
    return lambda answer: replace(answer, cut=after)


def refused(status: int = 503, **headers: str) -> Change:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: Answer(status, b"{}", named)


def replayed(body: bytes) -> Change:
    """What was answered once, again."""
    return lambda answer: replace(answer, body=body)


def stalled(after: int, until: threading.Event) -> Change:
    """So many bytes, then silence, until the event; then the connection breaks."""
    return lambda answer: replace(answer, cut=after, wait=until)


def in_turn(*changes: Change) -> Change:
    """The first answer gets the first change, and so on; the last one stays."""
    left = list(changes)

    def change(answer: Answer) -> Answer:
        current = left.pop(0) if len(left) > 1 else left[0]
        return current(answer)

    return change


class FaultyServer:
    """Serves a simulator over HTTP on a port of its own, remembers requests and events, and misbehaves as told."""

    def __init__(self, simulator: RepositorySimulator) -> None:
        self.simulator = simulator
        self.requests: list[Request] = []
        self.batches: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, part: str, change: Change, times: int | None = None) -> Fault:
        self.faults.append(Fault(part, change, times))
        return self.faults[-1]

    def heal(self) -> None:
        self.faults.clear()

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        prefix = f"/v1/apps/{self.simulator.application}/"
        path = request.path.removeprefix(prefix) if request.path.startswith(prefix) else ""
        answer = self._proper(request, path)
        for fault in self.faults:
            if fault.applies(path):
                answer = fault.change(answer)
        if request.method == "POST" and answer.status == 202:
            self.batches.append(json.loads(gzip.decompress(request.body)))
        return answer

    def _proper(self, request: Request, path: str) -> Answer:
        if request.method == "POST":
            return Answer(202, b"{}") if path == "events" else Answer(404)
        poll = re.fullmatch(r"channels/([^/]+)/manifests", path)
        if poll:
            body = self.simulator.poll(poll[1], request.query["models"].split(","))
            return conditional(body, request, {"Content-Type": "application/json"})
        body = self.simulator.file(path)
        if body is None:
            return Answer(404)
        return ranged(body, request) if path.startswith("blobs/") else Answer(200, body)


def conditional(body: bytes, request: Request, headers: dict[str, str]) -> Answer:
    tag = f'"{sha256(body).hexdigest()}"'
    if request.headers.get("if-none-match") == tag:
        return Answer(304, b"", {"ETag": tag})
    return Answer(200, body, headers | {"ETag": tag})


def ranged(body: bytes, request: Request) -> Answer:
    headers = {"ETag": f'"{sha256(body).hexdigest()}"', "Accept-Ranges": "bytes"}
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if not wanted or request.headers.get("if-range") not in (None, headers["ETag"]):
        return Answer(200, body, headers)
    start = int(wanted[1])
    if start >= len(body):
        return Answer(416, b"", headers | {"Content-Range": f"bytes */{len(body)}"})
    return Answer(206, body[start:], headers | {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyServer

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_: object) -> None:
        pass

    def _respond(self, body: bytes) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            self._send(self.owner.answer(Request(self.command, url.path, query, headers, body)))
        except ConnectionError:
            self.close_connection = True

    def _send(self, answer: Answer) -> None:
        headers = {"Content-Length": str(len(answer.body))} | answer.headers
        headers = {name: value for name, value in headers.items() if value}
        self.close_connection = answer.cut is not None or "Content-Length" not in headers
        if answer.cut == 0:
            return
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut])
        self.wfile.flush()
        if answer.wait:
            answer.wait.wait(30)
