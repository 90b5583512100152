"""The two float files that variants of both families are made from."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from registry.conversion.report import Signature
from registry.conversion.worker.coreml import convert, write_package
from registry.conversion.worker.job import WorkerError

TFLITE_FILE = "float32.tflite"
COREML_PACKAGE = "fp16.mlpackage"


def write_float_files(function: Any, module: Any, signature: Signature, output: Path) -> str:
    """Write both below `output`. Returns why there is no Core ML package, or nothing when there is one."""
    (output / TFLITE_FILE).write_bytes(to_tflite(function, module))
    return _write_coreml(function, signature, output / COREML_PACKAGE)


def to_tflite(function: Any, module: Any) -> bytes:
    """`module` lists the variables: without it the file has no signature and, worse, may have no weights."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    try:
        return bytes(converter.convert())
    except Exception as error:
        raise WorkerError("tflite_conversion", f"TensorFlow Lite cannot express this model: {error}"[:2000]) from error


def _write_coreml(function: Any, signature: Signature, path: Path) -> str:
    """Empty, or why there is no package: a model Core ML cannot express still has its other variants."""
    try:
        write_package(convert(function, signature), path)
    except Exception as error:  # noqa: BLE001 coremltools raises whatever its op translators raise
        first_line = next(iter(str(error).splitlines()), "")
        return f"{type(error).__name__}: {first_line}"[:500]
    return ""
