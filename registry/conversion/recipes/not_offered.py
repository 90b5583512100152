"""Recipes one might ask for and does not get, each with the reason: what was tried and what came of it."""

from collections.abc import Mapping
from types import MappingProxyType

_TFMOT = (
    "tensorflow-model-optimization cannot read Keras 3 files, and its loader runs code that an H5 file brings; "
    "use {instead}"
)
_EXECUTORCH = "ExecuTorch needs an environment of its own with torch, which this server has not"

NOT_OFFERED: Mapping[str, str] = MappingProxyType(
    {
        "tflite-int16x8": "LiteRT does not allocate 16x8 files of common networks, and those it does run take 11 to 33 "
        "times as long as int8; use tflite-full-int8, or tflite-weight-int8 where that loses too much",
        "tflite-sparse-int8": "LiteRT refuses files that are both sparse and quantised; use "
        "tflite-prune-80-dynamic-int8, which is as small once it is compressed",
        "keras-int8": "models that Keras itself has quantised to int8 cannot be exported to LiteRT; use "
        "tflite-dynamic-int8",
        "keras-int4": "models that Keras itself has quantised to int4 grow when they are exported to LiteRT; use "
        "tflite-dynamic-int4",
        "tfmot-prune": _TFMOT.format(instead="tflite-prune-50, -80 or -90"),
        "tfmot-cluster": _TFMOT.format(instead="tflite-cluster-16 or -64"),
        "tfmot-qat": _TFMOT.format(instead="tflite-full-int8"),
        "pte-xnnpack": _EXECUTORCH,
        "pte-xnnpack-int8": _EXECUTORCH,
    }
)
