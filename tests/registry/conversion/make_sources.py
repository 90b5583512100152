"""Makes small untrained models of every kind a source may be. Run as a program: TensorFlow stays out of the tests."""

import sys
from pathlib import Path

import keras
import tensorflow as tf

layers = keras.layers


def two_headed() -> keras.Model:
    image, speed = keras.Input((8, 8, 1), name="image"), keras.Input((2,), name="speed")
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="look")(image))
    x = layers.Concatenate()([x, layers.Dense(4, name="feel")(speed)])
    return keras.Model([image, speed], [layers.Dense(3, name="turn")(x), layers.Dense(1, name="brake")(x)])


def recurrent(cell: type[layers.Layer], **settings: object) -> keras.Model:
    sequence = keras.Input((12, 4), name="sequence")
    return keras.Model(sequence, layers.Dense(3, name="scores")(cell(8, name="memory", **settings)(sequence)))


def any_size() -> keras.Model:
    photo = keras.Input((None, None, 3), name="photo")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="look")(photo))
    return keras.Model(photo, layers.Dense(2, name="scores")(x))


class Signatures(tf.Module):
    """Two ways to call one model, neither of them the default."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.random.stateless_normal((4, 3), seed=(1, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
    def classify(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.nn.softmax(features @ self.weights)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
    def embed(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tf.nn.relu(features @ self.weights)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
    def products(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """LiteRT has no Cumprod."""
        return {"products": tf.math.cumprod(features @ self.weights, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, None, 4), tf.float32, name="rows")])
    def any_length(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mean": tf.reduce_mean(rows @ self.weights, axis=1)}


def main(folder: Path) -> None:
    keras.utils.set_random_seed(7)
    two_headed().save(folder / "two_headed.keras")
    recurrent(layers.LSTM).save(folder / "lstm.keras")
    recurrent(layers.GRU, return_sequences=False).save(folder / "gru.keras")
    any_size().save(folder / "any_size.keras")
    module = Signatures()
    tf.saved_model.save(
        module, str(folder / "two_signatures"), signatures={"classify": module.classify, "embed": module.embed}
    )
    for name in ("classify", "products", "any_length"):
        tf.saved_model.save(module, str(folder / name), signatures={name: getattr(module, name)})
    for kept in ("two_signatures", "classify", "products", "any_length"):
        assert (folder / kept / "saved_model.pb").is_file()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
