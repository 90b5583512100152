"""What a release must be, whoever wants it: something for every device, nothing too new for it, no code."""

from collections.abc import Iterable

from distribution import errors
from registry.blob_store import blob_store
from registry.device_classes import Selector, compare_versions
from registry.inspection.archive import MAGIC_BYTES, NATIVE_SUFFIXES, is_native
from registry.models import Application, Variant


def require_shippable(application: Application, variants: Iterable[Variant]) -> None:
    """Raises `NoFallback`, `RuntimeTooOld`, `NativeCode`."""
    variants = list(variants)
    _require_fallback(application)
    for variant in variants:
        _require_runnable(application, variant)
        _require_no_native_code(variant)


def _require_fallback(application: Application) -> None:
    """A device that nobody thought of must find a class: the last one has no condition."""
    last = application.device_classes.order_by("position").last()
    if last is None or last.as_rule().selector != Selector():
        told = last.name if last else "none"
        raise errors.NoFallback(f"expected the last device class of {application} to have no condition, got {told}")


def _require_runnable(application: Application, variant: Variant) -> None:
    """`min_runtime_version` was read from the produced file; a class may not promise it to older runtimes."""
    needed = variant.min_runtime_version
    for row in application.device_classes.all() if needed else ():
        selector = row.as_rule().selector
        newest = selector.runtime_version_max
        if variant.name not in row.variants or variant.runtime not in selector.runtime or newest is None:
            continue
        if compare_versions(newest, needed) < 0:
            raise errors.RuntimeTooOld(
                f"expected {variant} to run on {variant.runtime} up to {newest}, as device class {row.name} declares; "
                f"its file needs {needed}"
            )


def _require_no_native_code(variant: Variant) -> None:
    """App shops forbid to fetch code; conversions make none, so that whatever is found was smuggled in."""
    for file in variant.files.select_related("artifact"):
        suffixes = {f".{part}" for part in file.path.lower().rpartition("/")[2].split(".")[1:]}
        with blob_store().open(file.artifact.sha256) as stream:
            if suffixes & NATIVE_SUFFIXES or is_native(stream.read(MAGIC_BYTES)):
                raise errors.NativeCode(f"expected no native code in {variant}, got {file.path}")
