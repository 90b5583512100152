"""Where the development services keep their files: everything under `var/` of the checkout."""

import secrets
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Layout:
    root: Path

    @property
    def run(self) -> Path:
        """Locks and records of running processes."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def online_keys(self) -> Path:
        return self.root / "keys" / "online"

    @property
    def publisher_keys(self) -> Path:
        return self.root / "keys" / "publisher"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def demo_marker(self) -> Path:
        """Exists once the demonstration was seeded completely."""
        return self.root / "demo.done"

    def create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.logs, self.blobs):
            folder.mkdir(exist_ok=True)
        for folder in (self.run, self.secrets, self.online_keys.parent, self.online_keys, self.publisher_keys):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)


def private_write(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.touch(mode=0o600, exist_ok=False)
    partial.write_text(text)
    partial.replace(path)


def secret(folder: Path, name: str) -> str:
    """The secret of that name, generated at its first use (256 bits, URL-safe)."""
    path = folder / name
    if not path.exists():
        private_write(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()
