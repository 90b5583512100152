"""The REST API as seen from a terminal or a pipeline: one method a verb, errors as the server told them."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from registry.digests import read_chunks, sha256_of_file

TIMEOUT_SECONDS = 60.0
PAGE = 500
NOT_FOUND = 404
UNFINISHED = {"waiting", "queued", "running"}


class ApiError(Exception):
    """The server's refusal: its status, its stable code and its words."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unreachable(ApiError):
    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(0, "unreachable", f"no answer from {url}: {error}")
        self.cause = error


class ControlPlane:
    """One application of one server."""

    def __init__(self, url: str, token: str, application: str, http: httpx.Client | None = None) -> None:
        self.url = url.rstrip("/")
        self.application = application
        self.http = http or httpx.Client(timeout=TIMEOUT_SECONDS)
        self.http.headers["Authorization"] = f"Bearer {token}"
        self.has_token = bool(token)

    def close(self) -> None:
        self.http.close()

    def push(
        self,
        *,
        model: str,
        source: Path,
        evaluation_set: Path | None = None,
        labels: list[str] | None = None,
        notes: str = "",
        recipes: list[str] | None = None,
        profile: str | None = None,
        metadata: dict[str, Any] | None = None,
        training_set: Path | None = None,
        source_signature: str = "",
        files: Sequence[tuple[str, Path, str]] = (),
        parts: Sequence[dict[str, Any]] = (),
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> dict[str, Any]:
        """Upload the files, register a version. `on_bytes` hears how many more bytes were sent.

        `files` are extra ones of its bundle: role, file, path in the bundle. `parts`: name, model and version of each.
        """
        body: dict[str, Any] = {"source": self.upload(source, on_bytes)["id"], "notes": notes}
        if evaluation_set is not None:
            body["evaluation_set"] = self.upload(evaluation_set, on_bytes)["id"]
        if training_set is not None:
            body["training_set"] = self.upload(training_set, on_bytes)["id"]
        said = {"profile": profile, "metadata": metadata, "source_signature": source_signature}
        body |= {name: value for name, value in said.items() if value}
        extra = [
            {"upload": self.upload(file, on_bytes)["id"], "role": role, "path": path} for role, file, path in files
        ]
        body |= {name: value for name, value in (("files", extra), ("parts", list(parts))) if value}
        if labels:
            body["labels"] = labels
        if recipes:
            body["recipes"] = recipes
        return self._make(f"models/{model}/versions", body)

    def upload(self, path: Path, on_bytes: Callable[[int], None] = lambda _count: None) -> dict[str, Any]:
        sha256, size_bytes = sha256_of_file(path)

        def body() -> Iterator[bytes]:
            for chunk in read_chunks(path):
                yield chunk
                on_bytes(len(chunk))

        return self._ask(  # type: ignore[no-any-return]
            "POST",
            "uploads",
            params={"file_name": path.name, "sha256": sha256},
            content=body(),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)},
        )

    def models(self) -> list[dict[str, Any]]:
        return self._list("models")

    def create_model(self, slug: str, name: str) -> dict[str, Any]:
        return self._make("models", {"slug": slug, "name": name})

    def versions(self, model: str) -> list[dict[str, Any]]:
        return self._list(f"models/{model}/versions")

    def version(self, model: str, number: int) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/versions/{number}")  # type: ignore[no-any-return]

    def variants(self, model: str, number: int) -> list[dict[str, Any]]:
        return self._list(f"models/{model}/versions/{number}/variants")

    def matrix(self, model: str, number: int) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/versions/{number}/matrix")  # type: ignore[no-any-return]

    def request_recipes(
        self, model: str, number: int, *, recipes: list[str], profile: str | None = None
    ) -> dict[str, Any]:
        body = {name: value for name, value in (("recipes", recipes), ("profile", profile)) if value}
        return self._make(f"models/{model}/versions/{number}/jobs", body)

    def cancel(self, model: str, number: int, recipe: str | None = None) -> dict[str, Any]:
        """One conversion, or all of the version."""
        below = f"jobs/{recipe}/cancel" if recipe else "cancel"
        return self._ask("POST", f"models/{model}/versions/{number}/{below}")  # type: ignore[no-any-return]

    def retry(self, model: str, number: int, recipe: str) -> dict[str, Any]:
        return self._ask("POST", f"models/{model}/versions/{number}/jobs/{recipe}/retry")  # type: ignore[no-any-return]

    def prioritise(self, model: str, number: int, recipe: str, priority: int) -> dict[str, Any]:
        path = f"models/{model}/versions/{number}/jobs/{recipe}/priority"
        return self._ask("POST", path, json={"priority": priority})  # type: ignore[no-any-return]

    def rebuild(self, model: str, number: int, notes: str = "") -> dict[str, Any]:
        return self._make(f"models/{model}/versions/{number}/rebuild", {"notes": notes})

    def compare(self, model: str, older: int, newer: int) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/versions/{newer}/compare/{older}")  # type: ignore[no-any-return]

    def profiles(self, model: str) -> list[dict[str, Any]]:
        return self._list(f"models/{model}/profiles")

    def set_profile(self, model: str, name: str, recipes: list[str], *, is_default: bool) -> dict[str, Any]:
        """Make the profile, or replace the one of that name."""
        body = {"recipes": recipes, "is_default": is_default}
        try:
            return self._make(f"models/{model}/profiles", {"name": name, **body})
        except ApiError as error:
            if error.code != "name_taken":
                raise
        return self._change("PUT", f"models/{model}/profiles/{name}", body)  # type: ignore[no-any-return]

    def delete_profile(self, model: str, name: str) -> None:
        self._change("DELETE", f"models/{model}/profiles/{name}")

    def gates(self, model: str) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/gates")  # type: ignore[no-any-return]

    def set_gates(self, model: str, gates: dict[str, Any]) -> dict[str, Any]:
        return self._change("PUT", f"models/{model}/gates", gates)  # type: ignore[no-any-return]

    def override(self, model: str, number: int, variant: str, reason: str) -> dict[str, Any]:
        return self._make(f"models/{model}/versions/{number}/variants/{variant}/override", {"reason": reason})

    def report_benchmark(self, model: str, number: int, variant: str, measured: dict[str, Any]) -> dict[str, Any]:
        return self._make(f"models/{model}/versions/{number}/variants/{variant}/benchmarks", measured)

    def watch_reproduction(
        self, model: str, number: int, variant: str, *, timeout_seconds: float, every_seconds: float = 0.5
    ) -> Iterator[dict[str, Any]]:
        """Ask for a second build and tell of it again and again until it is done. Raises `TimeoutError`."""
        path = f"models/{model}/versions/{number}/variants/{variant}/reproductions"
        row = self._make(path, {})
        end = time.monotonic() + timeout_seconds
        while row["state"] in UNFINISHED:
            yield row
            if time.monotonic() > end:
                raise TimeoutError(f"expected {variant} to be built again within {timeout_seconds} s, it is not")
            time.sleep(every_seconds)
            row = self._ask("GET", f"{path}/{row['id']}")
        yield row

    def jobs(self, **conditions: str) -> list[dict[str, Any]]:
        return self._list("jobs", conditions)

    def yank(self, model: str, number: int, reason: str) -> dict[str, Any]:
        return self._ask("POST", f"models/{model}/versions/{number}/yank", json={"reason": reason})  # type: ignore[no-any-return]

    def watch_conversions(
        self, model: str, number: int, *, timeout_seconds: float, every_seconds: float = 0.5
    ) -> Iterator[dict[str, Any]]:
        """The version again and again until no conversion is open. Raises `TimeoutError`."""
        end = time.monotonic() + timeout_seconds
        while True:
            version = self.version(model, number)
            yield version
            if not any(job["state"] in UNFINISHED for job in version["jobs"]):
                return
            if time.monotonic() > end:
                open_jobs = ", ".join(job["recipe"] for job in version["jobs"] if job["state"] in UNFINISHED)
                raise TimeoutError(f"expected conversions to end within {timeout_seconds} s, still open: {open_jobs}")
            time.sleep(every_seconds)

    def publish(self, channel: str, model: str, version: int, reason: str = "") -> dict[str, Any]:
        body = {"model": model, "version": version, "reason": reason}
        return self._make(f"channels/{channel}/releases", body)

    def roll_back(self, channel: str, model: str, reason: str, to_version: int | None = None) -> dict[str, Any]:
        body = {"model": model, "to_version": to_version, "reason": reason}
        return self._make(f"channels/{channel}/rollback", body)

    def kill(self, channel: str, model: str, reason: str) -> dict[str, Any]:
        return self._make(f"channels/{channel}/kill-switches/{model}", {"reason": reason})

    def lift(self, channel: str, model: str, reason: str) -> None:
        self._ask("DELETE", f"channels/{channel}/kill-switches/{model}", json={"reason": reason})

    def channel_settings(self, channel: str, changes: dict[str, int]) -> dict[str, Any]:
        """As they are, or after the changes."""
        path = f"channels/{channel}/settings"
        present: dict[str, Any] = self._ask("GET", path)
        return self._change("PUT", path, {**present, **changes}) if changes else present

    def promote(self, channel: str, model: str, source: str, reason: str) -> dict[str, Any]:
        return self._make(f"channels/{channel}/promote", {"model": model, "from_channel": source, "reason": reason})

    def release_requests(self, channel: str) -> list[dict[str, Any]]:
        return self._list(f"channels/{channel}/release-requests")

    def request_release(self, channel: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._make(f"channels/{channel}/release-requests", body)

    def request_lift(self, channel: str, model: str, reason: str) -> dict[str, Any]:
        return self.request_release(channel, {"action": "lift_kill_switch", "model": model, "reason": reason})

    def approve(self, channel: str, request: int) -> dict[str, Any]:
        path = f"channels/{channel}/release-requests/{request}"
        tag = self._send("GET", path).headers["ETag"]
        return self._ask("POST", f"{path}/approve", headers={"If-Match": tag})  # type: ignore[no-any-return]

    def cancel_request(self, channel: str, request: int) -> None:
        self._change("DELETE", f"channels/{channel}/release-requests/{request}")

    def floors(self, channel: str, model: str, wanted: list[int] | None) -> dict[str, Any]:
        path = f"channels/{channel}/models/{model}/floors"
        if wanted is None:
            return self._ask("GET", path)  # type: ignore[no-any-return]
        return self._change("PUT", path, {"floors": wanted})  # type: ignore[no-any-return]

    def pins(self, channel: str, model: str) -> list[dict[str, Any]]:
        return self._list(f"channels/{channel}/models/{model}/pins")

    def pin(self, channel: str, model: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._make(f"channels/{channel}/models/{model}/pins", body)

    def unpin(self, channel: str, model: str, pin: int) -> None:
        self._ask("DELETE", f"channels/{channel}/models/{model}/pins/{pin}")

    def test_devices(self, channel: str) -> list[dict[str, Any]]:
        return self._list(f"channels/{channel}/test-devices")

    def invite_device(self, channel: str, name: str) -> dict[str, Any]:
        return self._ask("POST", f"channels/{channel}/test-devices", json={"name": name})  # type: ignore[no-any-return]

    def remove_device(self, channel: str, device: int) -> None:
        self._ask("DELETE", f"channels/{channel}/test-devices/{device}")

    def kill_switches(self, channel: str) -> list[dict[str, Any]]:
        return self._list(f"channels/{channel}/kill-switches")

    def releases(self, channel: str) -> list[dict[str, Any]]:
        return self._list(f"channels/{channel}/releases")

    def wait_until_live(
        self, channel: str, release_id: int, *, timeout_seconds: float, every_seconds: float = 0.2
    ) -> dict[str, Any]:
        """The release once devices get it. Raises `TimeoutError`."""
        end = time.monotonic() + timeout_seconds
        while True:
            release: dict[str, Any] = self._ask("GET", f"channels/{channel}/releases/{release_id}")
            if release["state"] != "waiting":
                return release
            if time.monotonic() > end:
                raise TimeoutError(
                    f"expected release {release_id} to go live within {timeout_seconds} s; it waits for the signer "
                    "process or the publisher"
                )
            time.sleep(every_seconds)

    def root(self) -> dict[str, Any]:
        return self._ask("GET", "trust/root")  # type: ignore[no-any-return]

    def import_root(self, root: dict[str, Any], targets: dict[str, Any] | None) -> dict[str, Any]:
        return self._ask("POST", "trust/root", json={"root": root, "targets": targets})  # type: ignore[no-any-return]

    def pending_targets(self, role: str) -> dict[str, Any]:
        return self._ask("GET", "trust/targets", params={"role": role})  # type: ignore[no-any-return]

    def import_targets(self, role: str, targets: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "trust/targets", json={"role": role, "targets": targets})  # type: ignore[no-any-return]

    def trust_keys(self) -> dict[str, Any]:
        return self._ask("GET", "trust/keys")  # type: ignore[no-any-return]

    def tell_key(self, role: str, key: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "trust/keys", json={"role": role, "key": key})  # type: ignore[no-any-return]

    def trust_status(self) -> dict[str, Any]:
        return self._ask("GET", "trust/status")  # type: ignore[no-any-return]

    def minimum(self, model: str) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/minimum-release-counter")  # type: ignore[no-any-return]

    def raise_minimum(self, model: str, value: int, reason: str) -> dict[str, Any]:
        body = {"value": value, "reason": reason}
        return self._ask("POST", f"models/{model}/minimum-release-counter", json=body)  # type: ignore[no-any-return]

    def embedded(self, channel: str, model: str, variant: str | None) -> dict[str, Any]:
        params = {"variant": variant} if variant else {}
        return self._ask("GET", f"channels/{channel}/embedded/{model}", params=params)  # type: ignore[no-any-return]

    def revisions(self) -> list[dict[str, Any]]:
        return self._list("revisions")

    def audit_log(self, *, most: int, **conditions: str) -> list[dict[str, Any]]:
        """The newest entries, newest first."""
        return self._list("audit-log", conditions, most=most)

    def channels(self) -> list[dict[str, Any]]:
        return self._list("channels")

    def create_channel(self, slug: str) -> dict[str, Any]:
        return self._make("channels", {"slug": slug})

    def device_classes(self) -> list[dict[str, Any]]:
        return self._list("device-classes")

    def device_class(self, name: str) -> dict[str, Any]:
        return self._ask("GET", f"device-classes/{name}")  # type: ignore[no-any-return]

    def save_device_class(self, body: dict[str, Any], *, is_new: bool) -> dict[str, Any]:
        if is_new:
            return self._make("device-classes", body)
        return self._change("PUT", f"device-classes/{body['name']}", body)  # type: ignore[no-any-return]

    def order_device_classes(self, names: list[str]) -> list[dict[str, Any]]:
        return self._change("PUT", "device-classes", {"order": names})  # type: ignore[no-any-return]

    def delete_device_class(self, name: str) -> None:
        self._change("DELETE", f"device-classes/{name}")

    def match(self, profile: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "device-class-match", json=profile)  # type: ignore[no-any-return]

    def explain(self, channel: str, model: str, query: dict[str, str], unit: str | None) -> dict[str, Any]:
        """`query` has the members of a poll."""
        headers = {"Aerogram-Unit": unit} if unit else {}
        path = f"channels/{channel}/models/{model}/explain"
        return self._ask("GET", path, params=query, headers=headers)  # type: ignore[no-any-return]

    def members(self) -> list[dict[str, Any]]:
        return self._list("memberships")

    def grant(self, user: str, role: str) -> dict[str, Any]:
        """Give the user this role, in place of the one they have, if any."""
        try:
            return self._make("memberships", {"user": user, "role": role})
        except ApiError as error:
            if error.code != "already_member":
                raise
        return self._change("PUT", f"memberships/{user}", {"role": role})  # type: ignore[no-any-return]

    def revoke(self, user: str) -> None:
        self._change("DELETE", f"memberships/{user}")

    # Of the whole server rather than of one application.

    def applications(self) -> list[dict[str, Any]]:
        return self._list("/applications")

    def create_application(self, slug: str, name: str) -> dict[str, Any]:
        return self._make("/applications", {"slug": slug, "name": name})

    def tokens(self) -> list[dict[str, Any]]:
        return self._list("/tokens")

    def issue_token(self, *, name: str, role: str, application: str | None, expires_at: datetime) -> dict[str, Any]:
        body = {"name": name, "role": role, "application": application, "expires_at": expires_at.isoformat()}
        return self._ask("POST", "/tokens", json=body)  # type: ignore[no-any-return]

    def revoke_token(self, token: int) -> None:
        self._ask("DELETE", f"/tokens/{token}")

    def webhooks(self) -> list[dict[str, Any]]:
        return self._list("webhooks")

    def create_webhook(self, name: str, url: str, event_types: list[str]) -> dict[str, Any]:
        """Without a key of idempotency: the answer holds a secret, which is never kept."""
        return self._ask("POST", "webhooks", json={"name": name, "url": url, "event_types": event_types})  # type: ignore[no-any-return]

    def change_webhook(self, name: str, url: str, event_types: list[str]) -> dict[str, Any]:
        return self._change("PUT", f"webhooks/{name}", {"url": url, "event_types": event_types})  # type: ignore[no-any-return]

    def delete_webhook(self, name: str) -> None:
        self._change("DELETE", f"webhooks/{name}")

    def webhook_deliveries(self, name: str, state: str | None) -> list[dict[str, Any]]:
        return self._list(f"webhooks/{name}/deliveries", {"state": state} if state else None)

    def act_on_webhook(self, name: str, act: str, said: dict[str, Any] | None = None) -> dict[str, Any]:
        """`test`, `disable`, `rotate-secret` or `deliveries/{id}/redeliver`."""
        return self._ask("POST", f"webhooks/{name}/{act}", json=said)  # type: ignore[no-any-return]

    # -- protection

    def protection(self, model: str, is_on: bool | None, reason: str) -> dict[str, Any]:  # noqa: FBT001
        """As it is, or after the change."""
        path = f"models/{model}/protection"
        if is_on is None:
            return self._ask("GET", path)  # type: ignore[no-any-return]
        return self._change("PUT", path, {"is_on": is_on, "reason": reason})  # type: ignore[no-any-return]

    def attestation(self, changes: dict[str, Any]) -> dict[str, Any]:
        """As it is, or after the changes; Google's decryption key stays when it is not among them."""
        present: dict[str, Any] = self._ask("GET", "attestation")
        if not changes:
            return present
        wanted = {name: value for name, value in present.items() if name != "has_play_decryption_key"}
        return self._change("PUT", "attestation", {**wanted, **changes})  # type: ignore[no-any-return]

    def content_keys(self) -> list[dict[str, Any]]:
        return self._list("content-keys")

    def revoke_key(self, key_id: str, reason: str) -> dict[str, Any]:
        return self._ask("POST", f"content-keys/{key_id}/revoke", json={"reason": reason})  # type: ignore[no-any-return]

    def key_calls(self, outcome: str | None) -> list[dict[str, Any]]:
        return self._list("key-calls", {"outcome": outcome} if outcome else None, most=PAGE)

    def rows(self, path: str, **conditions: str) -> list[dict[str, Any]]:
        """All of a list below the application."""
        return self._list(path, conditions)

    def layer_map(self, layer: int) -> dict[str, Any]:
        return self._ask("GET", f"layers/{layer}/map")  # type: ignore[no-any-return]

    def experiment(self, slug: str, part: str = "", **query: str) -> dict[str, Any]:
        path = f"experiments/{slug}" + (f"/{part}" if part else "")
        return self._ask("GET", path, params=query)  # type: ignore[no-any-return]

    def experiment_results(self, slug: str, phase: int | None, most: int | None) -> list[dict[str, Any]]:
        return self._list(f"experiments/{slug}/results", {"phase": str(phase)} if phase else None, most)

    def write(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        of: str | None = None,
        or_new: bool = False,
        if_match: str | None = None,
        key: str | None = None,
        validate_only: bool = False,
        query: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """A write that can be tried and repeated, made from the present state of `of` unless `if_match` names one.

        `or_new`: there may be none yet.
        """
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        if of is not None:
            headers["If-Match"] = if_match or self._present_tag(of, or_new=or_new)
        params = {**(query or {}), **({"validate_only": "true"} if validate_only else {})}
        said = {} if body is None else {"json": body}
        return self._ask_once(method, path, headers=headers, params=params, **said)  # type: ignore[no-any-return]

    def _present_tag(self, path: str, *, or_new: bool) -> str:
        try:
            return self._send("GET", path).headers["ETag"]
        except ApiError as error:
            if not or_new or error.status != NOT_FOUND:
                raise
            return "*"

    def _list(
        self, path: str, conditions: dict[str, str] | None = None, most: int | None = None
    ) -> list[dict[str, Any]]:
        """All pages together, or the first `most` entries."""
        limit = min(most or PAGE, PAGE)
        response = self._send("GET", path, params={**(conditions or {}), "limit": limit})
        found: list[dict[str, Any]] = response.json()
        while "next" in response.links and (most is None or len(found) < most):
            response = self._send("GET", response.links["next"]["url"])
            found += response.json()
        return found[:most]

    def _make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._ask_once("POST", path, json=body, headers=headers)  # type: ignore[no-any-return]

    def _ask_once(self, method: str, path: str, **options: Any) -> Any:
        """What carries a key is done once, even if an answer was lost and the request is sent again."""
        try:
            return self._ask(method, path, **options)
        except Unreachable as error:
            if isinstance(error.cause, httpx.ConnectError):
                raise
            return self._ask(method, path, **options)

    def _change(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A change of the state that the server has now."""
        tag = self._send("GET", path).headers["ETag"]
        return self._ask(method, path, headers={"If-Match": tag}, **({"json": body} if body is not None else {}))

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = self._send(method, path, **options)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """`path` below the application; from a slash on, below the API; or an address as the server gave it."""
        base = f"{self.url}/api/v1"
        if path.startswith("http"):
            url = f"{base}/{path.partition('/api/v1/')[2]}"  # the server may know itself by another name
        else:
            url = base + path if path.startswith("/") else f"{base}/applications/{self.application}/{path}"
        try:
            response = self.http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise Unreachable(self.url, error) from error
        if response.is_error:
            raise _refusal(response)
        return response


def _refusal(response: httpx.Response) -> ApiError:
    try:
        document = response.json()
        return ApiError(response.status_code, str(document["code"]), str(document["detail"]))
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "unexpected_answer", f"HTTP {response.status_code} without a reason")
