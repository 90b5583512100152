"""Writes SavedModels that touch files when they run, in a process of its own: tests do not load TensorFlow.

python saved_models.py OUTPUT_FOLDER SECRET_FILE FORBIDDEN_FILE
"""

import sys
from pathlib import Path

import tensorflow as tf


def model(act):
    """y = x + 0 * (what `act` gives), so that nothing of it is optimised away."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
        def serve(self, x):
            return {"y": x + act(x)}

    return Module()


def main(folder: Path, secret: str, forbidden: str) -> None:
    def read(_):
        return tf.cast(tf.strings.length(tf.io.read_file(secret)), tf.float32)

    def write(x):
        with tf.control_dependencies([tf.io.write_file(forbidden, "written")]):
            return tf.identity(x) * 0.0

    def match(_):
        found = tf.io.matching_files(secret.rpartition("/")[0] + "/*")
        return tf.cast(tf.size(found), tf.float32)

    for name, act in (("ReadFile", read), ("WriteFile", write), ("MatchingFiles", match)):
        module = model(act)
        tf.saved_model.save(module, str(folder / name), signatures={"serving_default": module.serve})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
