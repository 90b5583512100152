"""What a converter's exception says, in one sentence: the operation, layer or shape at fault, without its stack."""

import re
from collections.abc import Collection

MOST_CHARACTERS = 600
# Loops and lists of tensors, which recurrent layers become.
_RECURRENT = ("TensorListReserve", "TensorListFromTensor", "While", "StatelessWhile")
_UNSUPPORTED = re.compile(r"^(?:TF Select|Custom) ops: (.+)$", re.MULTILINE)
_REFUSED = re.compile(r"error: '(?:tf|tfl)\.(\w+)' op ([^\n]+)")
_NODE = re.compile(r'fused\["(\w+):", "([^"@]+/[^"@]+)')
_COREML = re.compile(r"TF op '?(\w+)'? not implemented|[Uu]nsupported (?:TF )?op(?:eration)?:? '?(\w+)")
_LAYER = re.compile(r"<(\w+) name=([\w./-]+)")


def tflite_refusal(error: Exception) -> str:
    text = str(error)
    operations = sorted({name.strip() for names in _UNSUPPORTED.findall(text) for name in names.split(",")})
    if operations:
        where = "".join(f" (at {node})" for name, node in dict(_NODE.findall(text)).items() if name in operations)
        return (
            f"expected operations that LiteRT has; got {', '.join(operations)}{where}: replace them by others, or cut "
            "the model before them and leave the rest to the app"
        )[:MOST_CHARACTERS]
    refused = _REFUSED.search(text)
    if refused:
        return f"expected operations that LiteRT has; got {refused[1]}, which {refused[2]}"[:MOST_CHARACTERS]
    return f"expected a model that TensorFlow Lite can express; got {_told(error)}"


def coreml_refusal(error: Exception, operations: Collection[str]) -> str:
    """`operations` are those of the traced function: coremltools stumbles over loops without naming them."""
    named = _COREML.search(str(error))
    if named:
        return f"expected operations that coremltools can translate; got {named[1] or named[2]}"
    loops = [name for name in _RECURRENT if name in operations]
    if loops:
        return (
            f"expected operations that coremltools can translate; got {', '.join(loops)}, of a recurrent layer "
            f"({type(error).__name__}): build the layer with unroll=True"
        )
    return f"expected a model that coremltools can translate; got {type(error).__name__}: {_told(error)}"


def keras_refusal(error: Exception) -> str:
    told = re.sub(r"\s+", " ", str(error)).strip()[:MOST_CHARACTERS] or type(error).__name__
    layer = _LAYER.search(str(error))
    at = f"; look at layer {layer[2]!r} ({layer[1]})" if layer else ""
    return f"expected a file that Keras loads in safe mode; got {told}{at}"


def saved_model_refusal(error: Exception) -> str:
    return f"expected a SavedModel that TensorFlow loads; got {_told(error)}"


def quantiser_refusal(error: Exception) -> str:
    return f"expected a model ai-edge-quantizer takes; got {_told(error)}"


def _told(error: Exception) -> str:
    return first_sentence(str(error)) or type(error).__name__


def first_sentence(text: str) -> str:
    """The first line that says something, on one line, without runs of spaces."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return next((line for line in lines if line), "")[:MOST_CHARACTERS]
