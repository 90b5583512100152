"""Trains the digits network and saves it. Run as a program: TensorFlow stays out of the process that runs the tests."""

import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

TRAINING_SAMPLES = 1347


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images of 8x8, each pixel repeated to 32x32x1, values 0..1; shuffled the same way every time."""
    data = load_digits()
    images = (data.images / 16).astype("float32").repeat(4, 1).repeat(4, 2)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], data.target.astype("int64")[order]


def network() -> keras.Model:
    layers = keras.layers
    image = keras.Input((32, 32, 1), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(32, 3, padding="same", activation="relu")(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.MaxPooling2D(2)(layers.Conv2D(32, 1, activation="relu")(x))
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))


def zipped(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))


def main(folder: Path) -> None:
    keras.utils.set_random_seed(7)
    images, labels = digits()
    model = network()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[:TRAINING_SAMPLES], labels[:TRAINING_SAMPLES], epochs=10, batch_size=32, verbose=0)
    held_out = images[TRAINING_SAMPLES:], labels[TRAINING_SAMPLES:]
    predicted = model.predict(held_out[0], batch_size=1, verbose=0).argmax(axis=1)
    np.savez(folder / "evaluation.npz", image=held_out[0], labels=held_out[1])
    np.savez(folder / "training.npz", image=images[:TRAINING_SAMPLES], labels=labels[:TRAINING_SAMPLES])
    model.save(folder / "digits.keras")
    model.export(folder / "digits", verbose=False)
    zipped(folder / "digits", folder / "digits.zip")
    (folder / "accuracy.txt").write_text(str(float(np.mean(predicted == held_out[1]))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
