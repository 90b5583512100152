"""Which families of recipes this installation cannot build, because an optional extra is absent. Imports none of it."""

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

# Of each extra the modules without which its family fails, and the name under which pip knows the extra.
EXTRAS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {"onnx": ("onnx", ("onnx", "onnxruntime", "tf2onnx")), "executorch": ("executorch", ("executorch",))}
)


def missing_extras() -> dict[str, str]:
    """Family -> why its recipes are left out; empty where every extra is installed."""
    found = {family: _reason(extra, modules) for family, (extra, modules) in EXTRAS.items()}
    return {family: reason for family, reason in found.items() if reason}


def _reason(extra: str, modules: tuple[str, ...]) -> str:
    absent = [module for module in modules if find_spec(module) is None]
    return f"needs the extra `{extra}`, which is not installed (no {', '.join(absent)})" if absent else ""
