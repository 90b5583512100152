"""The two float files that variants of both families are made from."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from registry.conversion.report import Signature
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.refusals import coreml_refusal, tflite_refusal

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
        raise WorkerError("tflite_conversion", tflite_refusal(error)) from error


def _write_coreml(function: Any, signature: Signature, path: Path) -> str:
    """Empty, or why there is no package: a model Core ML cannot express still has its other variants."""
    from registry.conversion.worker.coreml import convert, write_package  # noqa: PLC0415 seconds, of use only now

    try:
        write_package(convert(function, signature), path)
    except Exception as error:  # noqa: BLE001 coremltools raises whatever its op translators raise
        return coreml_refusal(error, _operations(function))
    return ""


def _operations(function: Any) -> set[str]:
    """Names of the operations of a concrete function, and of the functions it calls."""
    graph = function.graph.as_graph_def()
    called = (node.op for inner in graph.library.function for node in inner.node_def)
    return {node.op for node in graph.node} | set(called)
