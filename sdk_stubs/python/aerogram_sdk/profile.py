"""What a device says about itself: the query of a poll and the `profile` of an event batch."""

import platform
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """`os` is a lower-case token; versions are dotted; `ram_mb` is in MiB; empty means unknown and is not sent."""

    os: str
    os_version: str = ""
    app_version: str = ""
    runtime: str = ""
    runtime_version: str = ""
    device: str = ""
    soc: str = ""
    ram_mb: int | None = None
    accelerators: frozenset[str] = frozenset()

    @classmethod
    def of_this_machine(cls, *, app_version: str = "", runtime: str = "", runtime_version: str = "") -> Self:
        return cls(
            os=platform.system().lower(),
            os_version=leading_version(platform.release()),
            app_version=app_version,
            runtime=runtime,
            runtime_version=runtime_version,
        )

    def to_json(self) -> dict[str, Any]:
        """Known members only; accelerators as a sorted list."""
        members: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("os", "os_version", "app_version", "runtime", "runtime_version", "device", "soc")
        }
        members |= {"ram_mb": self.ram_mb, "accelerators": sorted(self.accelerators)}
        return {name: value for name, value in members.items() if value not in ("", None, [])}

    def to_query(self) -> dict[str, str]:
        query = self.to_json()
        if self.accelerators:
            query["accelerators"] = ",".join(query["accelerators"])
        return {name: str(value) for name, value in query.items()}

    @property
    def environment(self) -> str:
        """What can make a model work that failed before: another app, OS or runtime version."""
        return f"{self.app_version}|{self.os_version}|{self.runtime}|{self.runtime_version}"


def leading_version(text: str) -> str:
    """The dotted number at the start.

    >>> leading_version("6.1.0-18-amd64")
    '6.1.0'
    """
    parts: list[str] = []
    for part in text.partition("-")[0].split("."):
        if not part.isdigit():
            break
        parts.append(part)
    return ".".join(parts)
