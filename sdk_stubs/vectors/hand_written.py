"""Decisions that a person worked out from the rules, on the catalog of decisions.json: no code computed them.

(profile's index, unit's number or None, model, version that runs, reason, version, variant)
"""  # noqa: INP001

HAND_WRITTEN = [
    (0, None, "plain", None, "no_unit", 4, "tflite-full-int8"),
    (0, 7, "plain", None, "current_release", 4, "tflite-full-int8"),
    (1, 7, "plain", None, "current_release", 4, "tflite-float16"),
    (2, 7, "plain", None, "current_release", 4, "tflite-float16"),
    (3, 7, "plain", None, "current_release", 4, "tflite-float32"),
    (4, 7, "plain", None, "current_release", 4, "tflite-dynamic-int8"),
    (5, 7, "plain", None, "current_release", 4, "tflite-float32"),
    (6, 7, "plain", None, "current_release", 4, "tflite-float32"),
    (7, 7, "plain", None, "no_compatible_variant", 4, None),
    (8, 7, "plain", None, "no_compatible_variant", 4, None),
    (10, 7, "plain", None, "current_release", 4, "tflite-float32"),
    (0, 0, "ramped", None, "override", 4, "tflite-full-int8"),
    (0, 1, "ramped", 3, "override", 4, "tflite-full-int8"),
    (0, None, "ramped", None, "no_unit", 3, "tflite-full-int8"),
    (6, 7, "floored", 1, "floor", 3, "tflite-float32"),
    (6, 7, "floored", 3, "floor", 4, "tflite-float32"),
    (6, 7, "floored", 4, "current_release", 5, "tflite-float32"),
    (6, 7, "floored", None, "current_release", 5, "tflite-float32"),
    (6, 7, "floored", 9, "current_release", 5, "tflite-float32"),
    (6, 7, "first", None, "use_embedded", None, None),
    (6, None, "first", None, "no_unit", None, None),
    (6, 7, "killed", None, "kill_switch", None, None),
    (6, None, "killed", 4, "kill_switch", None, None),
    (6, 7, "unknown", None, "unknown_model", None, None),
]
