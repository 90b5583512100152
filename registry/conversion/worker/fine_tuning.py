"""Training a Keras model on while its weights are pruned, so that the others learn to do without them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from registry.conversion.evaluation_set import EvaluationSet
from registry.conversion.worker import progress
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.pruning import FEWEST_WEIGHTS, magnitude_mask, ramp

Array = npt.NDArray[np.generic]

SEED = 7
# Depthwise kernels have few weights, each of which is all a channel has.
_LEFT_ALONE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_PRUNED_NAMES = frozenset({"kernel", "pointwise_kernel", "recurrent_kernel", "embeddings"})
_SUM_TOLERANCE = 1e-3
PROBED_SAMPLES = 32


@dataclass(frozen=True)
class Schedule:
    """`ramp_share` of all steps bring the sparsity to its end; the rest of them repairs."""

    sparsity: float
    epochs: int
    learning_rate: float
    batch_size: int
    ramp_share: float
    ramp_updates: int

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Schedule":
        given = dict(parameters)
        return cls(sparsity=given.pop("sparsity_percent") / 100, **given)


def prunable(model: keras.Model) -> list[Any]:
    """The kernels large enough to be worth it. Raises WorkerError where there is none."""
    found = [
        weight
        for layer in model._flatten_layers(include_self=False, recursive=True)  # noqa: SLF001 no public walk of nested models
        if not isinstance(layer, _LEFT_ALONE)
        for weight in layer._trainable_variables  # noqa: SLF001 this layer's own ones only
        if weight.name in _PRUNED_NAMES and len(weight.shape) > 1 and int(np.prod(weight.shape)) >= FEWEST_WEIGHTS
    ]
    if not found:
        raise WorkerError("nothing_to_prune", f"expected kernels of at least {FEWEST_WEIGHTS} weights; got none")
    return found


def prune_once(model: keras.Model, sparsity: float) -> None:
    for weight in prunable(model):
        values = np.asarray(weight)
        weight.assign(values * magnitude_mask(values, sparsity))


def prune_and_train(model: keras.Model, training: EvaluationSet, schedule: Schedule, job: Job) -> str:
    """Prune step by step while training on; returns what the training aimed at.

    Equal seeds, one thread and deterministic operations: the same source and set give the same weights.
    """
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    inputs = [training.inputs[name] for name in training.inputs]
    target = _target(model, inputs, training.labels)
    trained = keras.Model(model.inputs, target.outputs)
    trained.compile(
        optimizer=keras.optimizers.Adam(schedule.learning_rate, clipnorm=1.0), loss=target.loss, jit_compile=False
    )
    steps = schedule.epochs * -(-len(training) // schedule.batch_size)
    masks = Masks(prunable(model), schedule, steps, job)
    trained.fit(
        inputs,
        target.values,
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        verbose=0,
        callbacks=[masks],
    )
    if not all(np.isfinite(np.asarray(weight)).all() for weight in model.weights):
        raise WorkerError("training_diverged", "expected finite weights after fine-tuning; got NaN or infinity")
    return target.meaning


class Masks(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the pruned weights to zero after every step, and prunes more at `ramp_updates` of them."""

    def __init__(self, weights: list[Any], schedule: Schedule, steps: int, job: Job) -> None:
        super().__init__()
        self._weights, self._schedule, self._steps, self._job = weights, schedule, steps, job
        self._ramp_steps = max(1, int(steps * schedule.ramp_share))
        self._interval = max(1, self._ramp_steps // schedule.ramp_updates)
        self._done = 0
        self._masks: list[Array] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 as Keras calls it
        self._done += 1
        last = self._done in (self._ramp_steps, self._steps)
        if self._done <= self._ramp_steps and (last or self._done % self._interval == 0):
            sparsity = ramp(self._schedule.sparsity, self._done / self._ramp_steps)
            self._masks = [magnitude_mask(np.asarray(weight), sparsity) for weight in self._weights]
        for weight, mask in zip(self._weights, self._masks, strict=bool(self._masks)):
            weight.assign(np.asarray(weight) * mask)
        progress.tell(self._job.scratch, "fine-tuning", 10 + 70 * self._done // self._steps)


@dataclass(frozen=True)
class _Target:
    """What the pruned model is to say: `values` for `outputs`, compared by `loss`."""

    outputs: Any
    values: Any
    loss: Any
    meaning: str


def _target(model: keras.Model, inputs: list[Array], labels: Array | None) -> _Target:
    """The labels for the first output that scores classes; without either, what the model itself said before."""
    highest = -1 if labels is None else int(np.max(labels))
    for output in model.outputs:
        if len(output.shape) == 2 and (output.shape[-1] or 0) > highest >= 0:  # noqa: PLR2004 (batch, classes)
            probe = keras.Model(model.inputs, output)
            scores = probe([array[:PROBED_SAMPLES] for array in inputs], training=False)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not _are_probabilities(np.asarray(scores)))
            return _Target(output, labels, loss, "its labels")
    said = keras.Model(model.inputs, model.outputs).predict(inputs, verbose=0, batch_size=PROBED_SAMPLES)
    return _Target(model.outputs, keras.tree.flatten(said), "mse", "the source's own outputs")


def _are_probabilities(scores: Array) -> bool:
    """True where every row lies in 0..1 and sums to 1: softmax has been applied already."""
    values = scores.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1, atol=_SUM_TOLERANCE))
