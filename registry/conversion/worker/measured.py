"""What a model made of an evaluation set: one accuracy for each labelled output, and how each sample went."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.conversion.evaluation_set import EvaluationSet
from registry.conversion.measures import MetricError, accuracy, default_metric, encoded, scores_over_classes
from registry.conversion.report import Accuracy, Outcomes
from registry.conversion.worker.job import WorkerError

Array = npt.NDArray[np.generic]

BAD_EVALUATION_SET = "bad_evaluation_set"
OF_CLASSES = ("accuracy", "top5")


@dataclass(frozen=True)
class Evaluated:
    """`accuracies` in the order of the outputs; empty without labels that some output can be measured by."""

    accuracies: tuple[Accuracy, ...] = ()
    outcomes: Outcomes | None = None

    @property
    def accuracy(self) -> Accuracy | None:
        return next(iter(self.accuracies), None)


def evaluated(outputs: Mapping[str, Array], evaluation: EvaluationSet, reference: Mapping[str, Array]) -> Evaluated:
    """Measure each labelled output against its labels and against the source's. Raises WorkerError for a bad set."""
    found, per_sample = list[Accuracy](), dict[str, str]()
    for name, (metric, labels) in _labelled(evaluation, reference).items():
        try:
            measured, outcome = accuracy(metric, outputs[name], labels, reference[name], name)
        except MetricError as error:
            raise WorkerError(BAD_EVALUATION_SET, f"output {name!r}: {error}") from error
        found.append(measured)
        per_sample[name] = encoded(metric, outcome)
    return Evaluated(tuple(found), Outcomes(evaluation.digest, per_sample) if found else None)


def _labelled(evaluation: EvaluationSet, reference: Mapping[str, Array]) -> dict[str, tuple[str, Array]]:
    """Output name -> (metric, labels), in the order of the outputs."""
    _require_known(evaluation, reference)
    named = dict[str, tuple[str, Array]]()
    for key, labels in evaluation.labels_of.items():
        asked = evaluation.metrics.get(key) or evaluation.metrics.get("")
        metric = asked or default_metric(labels)
        output = key or _output_for(metric, asked is not None, reference)
        if output:
            named[output] = metric, labels
    return {name: named[name] for name in reference if name in named}


def _require_known(evaluation: EvaluationSet, reference: Mapping[str, Array]) -> None:
    unknown = sorted(({*evaluation.labels_of} | {*evaluation.metrics}) - {*reference, ""})
    if unknown:
        expected = f"expected labels and metrics of the model's outputs ({', '.join(reference)})"
        raise WorkerError(BAD_EVALUATION_SET, f"{expected}; got {', '.join(unknown)}")


def _output_for(metric: str, is_asked: bool, reference: Mapping[str, Array]) -> str:  # noqa: FBT001
    """The output that labels without a name belong to; empty where none fits and nobody asked for a metric."""
    fitting = [name for name in reference if metric not in OF_CLASSES or scores_over_classes(reference[name])]
    if len(fitting) == 1 or (fitting and metric in OF_CLASSES):
        return fitting[0]
    if not fitting and not is_asked:
        return ""
    expected = f"expected one output that {metric} can be measured of, or labels named labels/<output>"
    raise WorkerError(BAD_EVALUATION_SET, f"{expected}; got {', '.join(fitting) or 'none'}")
