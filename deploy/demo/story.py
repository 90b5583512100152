"""The story: train, push, convert, publish; phones update; a better version; a rollback; and what everybody runs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy import env
from deploy.cli import views
from deploy.cli.client import ApiError, ControlPlane
from deploy.demo import digits
from deploy.demo.devices import Phone, phones
from deploy.demo.pictures import PICTURES, classify_pictures, person_detect_folder

CHANNEL = "production"
APPLICATION = "demo"
CONVERSION_TIMEOUT_SECONDS = 1200.0
PUBLISH_TIMEOUT_SECONDS = 60.0
SEEN_TIMEOUT_SECONDS = 30.0


class Story:
    """One run of the demonstration against a server that is up."""

    def __init__(self, server: ControlPlane, device_url: str, folder: Path, console: Console) -> None:
        self.server = server
        self.folder = folder
        self.console = console
        self.training, self.held_out = digits.load()
        self.evaluation_set = folder / "held-out.npz"
        self.held_out.save_evaluation_set(self.evaluation_set)
        root = json.dumps(self._root()).encode()
        self.phones = phones(
            server=device_url, application=APPLICATION, channel=CHANNEL, root=root, stores=folder / "phones"
        )

    def tell(self) -> None:
        first = self._push_digits("first version", epochs=8, seed=1)
        self._publish("digits", first["number"])
        self._all_update("digits", first["number"])
        second = self._push_digits("trained longer", epochs=16, seed=2)
        self._publish("digits", second["number"])
        self._all_update("digits", second["number"])
        self._say("Something looks wrong in the field: going back")
        release = self.server.roll_back(CHANNEL, "digits", "demonstration of a rollback")
        self._wait_live(release)
        self._all_update("digits", release["version"])
        self._person_detection()
        self.console.print()
        for version in (first, second):
            self.console.print(views.variant_table(version, self.server.variants("digits", version["number"])))
        self.console.print(self._what_phones_run())

    def _root(self) -> dict[str, Any]:
        """The signer makes it moments after the application."""
        root: dict[str, Any] = self._until("the signer to make the trust root", self.server.root, (ApiError,))
        return root

    def _push_digits(self, notes: str, *, epochs: int, seed: int) -> dict[str, Any]:
        model = self.folder / "digits.keras"
        self._say(f"Training a small convolutional network on {len(self.training.labels)} digits, {epochs} epochs")
        command = [sys.executable, "-m", "deploy.demo.train", str(model), "--epochs", str(epochs), "--seed", str(seed)]
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        trained = subprocess.run(command, check=True, capture_output=True, text=True, env=quiet)
        accuracy = trained.stdout.split()[-1]
        self._say(f"Keras says {accuracy} on {len(self.held_out.labels)} held-out digits; pushing it")
        labels = digits.LABELS
        version = self.server.push(
            model="digits", source=model, evaluation_set=self.evaluation_set, labels=labels, notes=notes
        )
        return self._converted("digits", version["number"])

    def _converted(self, model: str, number: int) -> dict[str, Any]:
        version = views.follow_conversions(
            self.console, self.server, model, number, timeout_seconds=CONVERSION_TIMEOUT_SECONDS, quiet=False
        )
        failed = [
            f"{job['recipe']} {job['state']}: {(job['error'] or {}).get('detail')}"
            for job in version["jobs"]
            if job["state"] not in ("succeeded", "not_applicable")
        ]
        if failed:
            raise RuntimeError(f"expected every conversion of {model}:{number} to succeed; {'; '.join(failed)}")
        return version

    def _publish(self, model: str, number: int) -> None:
        self._wait_live(self.server.publish(CHANNEL, model, number, "demonstration"))

    def _wait_live(self, release: dict[str, Any]) -> None:
        live = self.server.wait_until_live(CHANNEL, release["id"], timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
        self._say(f"Version {live['version']} of {live['model']} is live in revision {live['live_revision']}")

    def _all_update(self, model: str, number: int) -> None:
        for phone in self.phones:
            outcome = self._until_version(phone, model, number)
            accuracy = phone.classify(model, self.held_out)
            taken = phone.report()
            self._say(
                f"  {phone.name:16} {outcome.state:9} {outcome.variant} of version {outcome.version}, "
                f"{accuracy:.4f} right, {taken} events"
            )

    def _until_version(self, phone: Phone, model: str, number: int) -> Any:
        def update() -> Any:
            outcome = phone.update(model)
            if outcome.version != number:
                raise LookupError(f"{phone.name} got {outcome.version}: {outcome.reason} {outcome.error or ''}")
            return outcome

        return self._until(f"version {number} on {phone.name}", update, (LookupError,))

    def _person_detection(self) -> None:
        folder = person_detect_folder()
        if folder is None:
            self._say("No person_detect.tflite beside this checkout; that part is left out")
            return
        source = folder / "person_detect.tflite"
        self._say("Registering person_detect.tflite, a ready model of somebody else's")
        version = self.server.push(model="person-detect", source=source, labels=["no person", "person"])
        version = self._converted("person-detect", version["number"])
        self._publish("person-detect", version["number"])
        phone = self.phones[1]
        self._until_version(phone, "person-detect", version["number"])
        variant = self.server.variants("person-detect", version["number"])[0]
        input_name = variant["report"]["signature"]["inputs"][0]["name"]
        for name, label, score in classify_pictures(phone, folder, input_name):
            self._say(f"  {name}: {label} ({score:.2f}), expected {PICTURES[name]}")
            if label != PICTURES[name]:
                raise RuntimeError(f"{name}: expected {PICTURES[name]}, got {label}")
        phone.report()

    def _what_phones_run(self) -> Table:
        table = Table("device", "model", "version", "variant", title="What each device runs now")
        for phone in self.phones:
            for model, outcome in phone.outcomes.items():
                table.add_row(phone.name, model, str(outcome.version), outcome.variant)
        return table

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False)

    def _until(self, what: str, ask: Callable[[], Any], retry_on: tuple[type[Exception], ...]) -> Any:
        end = time.monotonic() + SEEN_TIMEOUT_SECONDS
        while True:
            try:
                return ask()
            except retry_on as error:
                if time.monotonic() > end:
                    raise TimeoutError(f"expected {what} within {SEEN_TIMEOUT_SECONDS:.0f} s; {error}") from error
                time.sleep(0.3)


def read_token() -> str:
    """AEROGRAM_TOKEN, or the file that the first run wrote."""
    token = env.text("AEROGRAM_TOKEN", "")
    if token:
        return token
    variables = env.folder("AEROGRAM_VAR_DIR", Path(__file__).resolve().parents[2] / "var")
    return (variables / "secrets" / "api-token").read_text().strip()


def run() -> None:
    console = Console()
    web = env.text("AEROGRAM_WEB_URL", "http://127.0.0.1:8000")
    device = env.text("AEROGRAM_DEVICE_URL", "http://127.0.0.1:8001")
    with (
        closing(ControlPlane(web, read_token(), APPLICATION)) as server,
        tempfile.TemporaryDirectory(prefix="aerogram-demo-") as folder,
    ):
        Story(server, device, Path(folder), console).tell()
