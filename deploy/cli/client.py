"""The REST API as seen from a terminal or a pipeline: one method a verb, errors as the server told them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from registry.digests import read_chunks, sha256_of_file

TIMEOUT_SECONDS = 60.0
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


class ControlPlane:
    """One application of one server."""

    def __init__(self, url: str, token: str, application: str, http: httpx.Client | None = None) -> None:
        self.url = url.rstrip("/")
        self.application = application
        self.http = http or httpx.Client(timeout=TIMEOUT_SECONDS)
        self.http.headers["Authorization"] = f"Bearer {token}"

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
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> dict[str, Any]:
        """Upload the files, register a version. `on_bytes` hears how many more bytes were sent."""
        body: dict[str, Any] = {"source": self.upload(source, on_bytes)["id"], "notes": notes}
        if evaluation_set is not None:
            body["evaluation_set"] = self.upload(evaluation_set, on_bytes)["id"]
        if labels:
            body["labels"] = labels
        if recipes:
            body["recipes"] = recipes
        return self._ask("POST", f"models/{model}/versions", json=body)  # type: ignore[no-any-return]

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
        return self._ask("GET", "models")  # type: ignore[no-any-return]

    def versions(self, model: str) -> list[dict[str, Any]]:
        return self._ask("GET", f"models/{model}/versions")  # type: ignore[no-any-return]

    def version(self, model: str, number: int) -> dict[str, Any]:
        return self._ask("GET", f"models/{model}/versions/{number}")  # type: ignore[no-any-return]

    def variants(self, model: str, number: int) -> list[dict[str, Any]]:
        return self._ask("GET", f"models/{model}/versions/{number}/variants")  # type: ignore[no-any-return]

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
        return self._ask("POST", f"channels/{channel}/releases", json=body)  # type: ignore[no-any-return]

    def roll_back(self, channel: str, model: str, reason: str, to_version: int | None = None) -> dict[str, Any]:
        body = {"model": model, "to_version": to_version, "reason": reason}
        return self._ask("POST", f"channels/{channel}/rollback", json=body)  # type: ignore[no-any-return]

    def kill(self, channel: str, model: str, reason: str) -> None:
        self._ask("POST", f"channels/{channel}/kill-switches/{model}", json={"reason": reason})

    def lift(self, channel: str, model: str, reason: str) -> None:
        self._ask("DELETE", f"channels/{channel}/kill-switches/{model}", json={"reason": reason})

    def releases(self, channel: str) -> list[dict[str, Any]]:
        return self._ask("GET", f"channels/{channel}/releases")  # type: ignore[no-any-return]

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

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.url}/api/v1/applications/{self.application}/{path}"
        try:
            response = self.http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise Unreachable(self.url, error) from error
        if response.is_error:
            raise _refusal(response)
        return response.json() if response.content else None


def _refusal(response: httpx.Response) -> ApiError:
    try:
        document = response.json()
        return ApiError(response.status_code, str(document["code"]), str(document["detail"]))
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "unexpected_answer", f"HTTP {response.status_code} without a reason")
