"""The traces: what is made of a source in the heavy room, for recipes to start from.

`step` is the worker's module of that name. Those of other traces than the main one start from the source as well, and
get the main trace's folder for its signature and golden inputs.
"""

from collections.abc import Mapping
from types import MappingProxyType

from registry.conversion.recipes.recipe import TRACE, Trace

TRACES = (
    Trace(TRACE, "trace"),
    Trace("trace-coreml-fp32", "trace_coreml_fp32"),
    Trace("trace-onnx", "trace_onnx"),
)

# A ready file needs no TensorFlow: its main trace is the file itself, and what it says on its own golden inputs.
ADOPTION_STEPS: Mapping[str, str] = MappingProxyType(
    {"tflite": "adopt", "coreml": "adopt_coreml", "onnx": "adopt_onnx"}
)
