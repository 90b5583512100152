"""What a variant must hold and look like, whatever the converter said: its weights, and the source's signature."""

from pathlib import Path

import numpy as np

from registry.conversion.recipes import Recipe
from registry.conversion.report import Signature, TensorSpec
from registry.conversion.worker.job import WorkerError
from registry.inspection.errors import InspectionError
from registry.inspection.tflite_file import inspect_tflite

READS_VARIABLES = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
# A model's tables (names, shapes, operators) stay as large as they are, whatever its weights shrink to.
TABLES_BYTES = 16 * 1024
LEFT_AS_IT_WAS = 0.95
# Types that Core ML's features take for the source's: any whole number, any real one.
FEATURE_TYPES = {"i": "int32", "u": "int32", "b": "int32", "f": "float32"}


def require_weights(entry: Path, recipe: Recipe) -> None:
    """Raises WorkerError for a `.tflite` whose weights stayed behind: it loads, and with XNNPACK even runs, on rubbish.

    TensorFlow Lite's converter writes such a file, without an error, of a function whose variables it was not given.
    """
    if recipe.family != "tflite":
        return
    try:
        operators = inspect_tflite(entry).details["operators"]
    except InspectionError as error:
        empty = error.code == "refused_operator" and any(name in str(error) for name in READS_VARIABLES)
        raise WorkerError("empty_model" if empty else error.code, str(error)) from error
    if not operators:
        raise WorkerError("empty_model", "expected operators in the file; got none")


def require_signature(found: Signature, source: Signature, recipe: Recipe) -> None:
    """Raises WorkerError where names, shapes or types are others than the source's and the recipe's."""
    for side in ("inputs", "outputs"):
        wanted = {spec.name: spec for spec in getattr(source, side)}
        got = {spec.name: spec for spec in getattr(found, side)}
        if set(wanted) != set(got):
            detail = f"expected {side} {', '.join(sorted(wanted))}; got {', '.join(sorted(got))}"
            raise WorkerError("wrong_signature", detail)
        for name, spec in got.items():
            _require_same(spec, wanted[name], recipe, side)


def _require_same(spec: TensorSpec, wanted: TensorSpec, recipe: Recipe, side: str) -> None:
    types = _types(wanted, recipe)
    if spec.shape != wanted.shape or spec.dtype not in types:
        expected = f"expected {side} {spec.name!r} of {' or '.join(types)} {wanted.shape}"
        raise WorkerError("wrong_signature", f"{expected}; got {spec.dtype} {spec.shape}")


def _types(wanted: TensorSpec, recipe: Recipe) -> tuple[str, ...]:
    """The source's own type, or what stands for it; an operator that cannot be quantised keeps its border float32."""
    # A ready Core ML package may have features of other types than numbers: pictures, say.
    kind = np.dtype(wanted.dtype).kind if wanted.dtype in np.sctypeDict else ""
    # And float16 features of its own.
    stands_for = recipe.family == "coreml" and wanted.dtype != "float16"
    own = FEATURE_TYPES.get(kind, wanted.dtype) if stands_for else wanted.dtype
    return (recipe.io_dtype, own) if recipe.io_dtype and kind == "f" else (own,)


def require_compressed(size_bytes: int, float_bytes: int, recipe: Recipe) -> None:
    """Raises WorkerError for a recipe that should shrink a file and left it as large as the float one of its format.

    Core ML's tools skip a weight they cannot compress with no more than a line in the log. Recipes that copy the float
    file, and files of little more than tables, are left out.
    """
    if recipe.step.startswith(("copy", "publish")) or recipe.expected_size_ratio >= 1 or float_bytes < TABLES_BYTES:
        return
    if size_bytes > LEFT_AS_IT_WAS * float_bytes:
        got = f"{size_bytes} bytes from {float_bytes}"
        raise WorkerError("not_compressed", f"expected a file well below the float one; got {got}")
