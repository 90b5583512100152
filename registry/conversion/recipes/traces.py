"""The traces: what is made of a source in the heavy room, for recipes to start from.

`step` is the worker's module of that name. Those of other traces than the main one start from the source as well, and
get the main trace's folder for its signature and golden inputs.
"""

from collections.abc import Mapping
from types import MappingProxyType

from registry.conversion.recipes.recipe import TRACE, Trace

_FINE_TUNING = {"epochs": 6, "learning_rate": 0.0005, "batch_size": 32, "ramp_share": 0.5, "ramp_updates": 20}


def _pruned(percent: int, *, needs_training_set: bool = True) -> Trace:
    parameters = {"sparsity_percent": percent, **_FINE_TUNING}
    return Trace(f"trace-prune-{percent}", "trace_prune", parameters, needs_training_set)


TRACES = (
    Trace(TRACE, "trace"),
    Trace("trace-coreml-fp32", "trace_coreml_fp32"),
    Trace("trace-onnx", "trace_onnx"),
    _pruned(50, needs_training_set=False),
    _pruned(75),
    _pruned(80),
    _pruned(90),
)

# A ready file needs no TensorFlow: its main trace is the file itself, and what it says on its own golden inputs.
ADOPTION_STEPS: Mapping[str, str] = MappingProxyType(
    {"tflite": "adopt", "coreml": "adopt_coreml", "onnx": "adopt_onnx"}
)
