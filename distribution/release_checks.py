"""What a release must be, whoever wants it: something for every device, nothing too new for it, no code."""

from collections.abc import Iterable, Iterator

from distribution import errors
from registry.blob_store import blob_store
from registry.device_classes import Selector, compare_versions
from registry.inspection import archive
from registry.inspection.archive import MAGIC_BYTES, NATIVE_SUFFIXES, is_native
from registry.inspection.errors import InspectionError
from registry.inspection.runtime_needs import needed_runtime
from registry.models import Application, Variant, VariantFile

# Systems that Core ML's versions of iOS count for; an empty condition on the system says nothing of its version.
IOS_NUMBERED = frozenset({"ios", "ipados", "tvos"})
ZIP_MAGIC = b"PK\x03\x04"


def require_shippable(application: Application, variants: Iterable[Variant]) -> None:
    """Raises `NoFallback`, `PartYanked`, `RuntimeTooOld`, `NativeCode`."""
    variants = list(variants)
    _require_fallback(application)
    for variant in variants:
        _require_parts_in_use(variant)
        _require_runnable(application, variant)
        _require_no_native_code(variant)


def _require_fallback(application: Application) -> None:
    """A device that nobody thought of must find a class: the last one has no condition."""
    last = application.device_classes.order_by("position").last()
    if last is None or last.as_rule().selector != Selector():
        told = last.name if last else "none"
        raise errors.NoFallback(f"expected the last device class of {application} to have no condition, got {told}")


def _require_parts_in_use(variant: Variant) -> None:
    yanked = variant.parts.filter(part__version__yanked_at__isnull=False).select_related("part__version__model")
    for row in yanked:
        raise errors.PartYanked(f"expected {variant} to hold versions in use, its part {row.part} was yanked")


def _require_runnable(application: Application, variant: Variant) -> None:
    """What a class declares of its devices' runtime must be enough for each variant that it prefers.

    | the class says          | refused when the file needs                                                       |
    |-------------------------|-----------------------------------------------------------------------------------|
    | runtime_version_max     | more: none of its devices could run it                                             |
    | runtime_version_min     | more, and the variant does not say so itself: some devices would get it in vain    |
    | os_version_max, for iOS | a newer iOS, of a Core ML variant, whose runtime is the system's                   |
    """
    rules = [row.as_rule() for row in application.device_classes.all() if variant.name in row.variants]
    bounds = [(rule.name, *bound) for rule in rules for bound in _declared(rule.selector, variant.runtime)]
    needed = _needed(variant) if bounds else ""
    for name, fact, version, is_newest in bounds:
        own = variant.min_runtime_version
        stands_in_catalog = bool(own) and compare_versions(own, needed) >= 0
        if compare_versions(version, needed) < 0 and (is_newest or not stands_in_catalog):
            raise errors.RuntimeTooOld(
                f"expected {variant} to run on the devices of class {name}: its file needs {variant.runtime} {needed}, "
                f"the class has {fact} {version}"
            )


def _declared(selector: Selector, runtime: str) -> Iterator[tuple[str, str, bool]]:
    """(the condition's name, its version, whether it is the newest that the class has)."""
    if selector.runtime and runtime not in selector.runtime:
        return
    if selector.runtime_version_max is not None:
        yield "runtime_version_max", selector.runtime_version_max, True
    if selector.runtime_version_min is not None:
        yield "runtime_version_min", selector.runtime_version_min, False
    is_ios = bool(selector.os) and set(selector.os) <= IOS_NUMBERED
    if runtime == "coreml" and is_ios and selector.os_version_max is not None:
        yield "os_version_max", selector.os_version_max, True


def _needed(variant: Variant) -> str:
    """The newer of what the conversion recorded and what its files say."""
    needed = str(variant.min_runtime_version)
    for file in variant.files.select_related("artifact"):
        if not file.path.endswith((".tflite", ".onnx")):
            continue
        with blob_store().local_file(file.artifact.sha256) as path:
            try:
                found = needed_runtime(path, variant.runtime)
            except InspectionError as error:
                raise errors.RuntimeTooOld(f"{variant}, {file.path}: {error}") from error
        if compare_versions(found, needed) > 0:
            needed = found
    return needed


def _require_no_native_code(variant: Variant) -> None:
    """App shops forbid to fetch code; conversions make none, so that whatever is found was smuggled in."""
    for file in variant.files.select_related("artifact"):
        suffixes = {f".{part}" for part in file.path.lower().rpartition("/")[2].split(".")[1:]}
        with blob_store().open(file.artifact.sha256) as stream:
            start = stream.read(MAGIC_BYTES)
        if suffixes & NATIVE_SUFFIXES or is_native(start):
            raise errors.NativeCode(f"expected no native code in {variant}, got {file.path}")
        if start.startswith(ZIP_MAGIC):
            _require_harmless_zip(variant, file)


def _require_harmless_zip(variant: Variant, file: VariantFile) -> None:
    try:
        with blob_store().local_file(file.artifact.sha256) as path, archive.opened(path, file.path):
            pass
    except InspectionError as error:
        raise errors.NativeCode(f"expected no native code in {variant}, {file.path}: {error}") from error
