"""Train the digits network and save it: `python -m deploy.demo.train digits.keras --epochs 8 --seed 1`.

A process of its own, so that TensorFlow's gigabyte goes with it.
"""

import argparse
from pathlib import Path

from deploy.demo import digits


def train(output: Path, *, epochs: int, seed: int) -> float:
    """Write a `.keras` file; returns its accuracy on the held-out digits."""
    import keras  # noqa: PLC0415 - the extra `convert`

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 1), name="image"),
            keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.Conv2D(64, 1, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(96, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    training, held_out = digits.load()
    model.fit(training.images, training.labels, epochs=epochs, batch_size=32, verbose=0)
    accuracy = float(model.evaluate(held_out.images, held_out.labels, verbose=0)[1])
    model.save(output)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{train(options.output, epochs=options.epochs, seed=options.seed):.4f}")


if __name__ == "__main__":
    main()
