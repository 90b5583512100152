"""The trace of a pruned model: its weights of small magnitude set to zero, the others trained on to make up for them.

Everything is compared with the source as it was before: golden inputs and references stay the main trace's.
"""

from dataclasses import replace
from pathlib import Path

from registry.conversion.evaluation_set import EvaluationSet, EvaluationSetError, load_evaluation_set
from registry.conversion.recipes import trace_named
from registry.conversion.report import Report, Signature
from registry.conversion.worker import progress
from registry.conversion.worker.fine_tuning import Schedule, prunable, prune_and_train, prune_once
from registry.conversion.worker.float_files import COREML_PACKAGE, write_float_files
from registry.conversion.worker.job import Job, WorkerError, installed_versions
from registry.conversion.worker.pruning import sparsity_of
from registry.conversion.worker.source_model import concrete, load_keras_model, outputs_of, source_of
from registry.conversion.worker.trace import VERSIONS_OF
from registry.conversion.worker.trace_files import Trace, trace_report
from registry.inspection.errors import InspectionError

MOST_SAMPLES = 20_000
ONE_SHOT_PERCENT = 50


def run(job: Job) -> Report:
    assert job.trace is not None
    if job.source_format != "keras":
        raise WorkerError(
            "not_applicable", f"expected a .keras source, whose layers can be trained on; got {job.source_format}"
        )
    schedule = Schedule.of(trace_named(job.trace_recipe).parameters)
    main = Trace.read(job.trace)
    training = _training_set(job.training_set, main.signature)
    if training is None and schedule.sparsity * 100 > ONE_SHOT_PERCENT:
        raise WorkerError(
            "no_training_set",
            f"expected a training set to prune more than {ONE_SHOT_PERCENT} % of the weights with; got none, and "
            "without fine-tuning that destroys a model",
        )
    progress.tell(job.scratch, "loading", 5)
    model = load_keras_model(job)
    source = source_of(model)
    note = _pruned(model, training, schedule, job)
    progress.tell(job.scratch, "converting", 85)
    function = concrete(source)
    signature = Signature(source.inputs, outputs_of(function))
    coreml_error = write_float_files(function, source.module, signature, job.output)
    trace = replace(
        main,
        coreml="" if coreml_error else COREML_PACKAGE,
        coreml_error=coreml_error,
        converter_versions=installed_versions(VERSIONS_OF),
    )
    share = 100 * sparsity_of([weight.numpy() for weight in prunable(model)])
    return trace_report(job, trace, (f"{share:.1f} % of the weights of {len(prunable(model))} kernels are zero", note))


def _training_set(path: Path | None, signature: Signature) -> EvaluationSet | None:
    if path is None:
        return None
    try:
        return load_evaluation_set(path, signature.inputs, MOST_SAMPLES)
    except (EvaluationSetError, InspectionError) as error:
        raise WorkerError("bad_training_set", str(error)) from error


def _pruned(model: object, training: EvaluationSet | None, schedule: Schedule, job: Job) -> str:
    if training is not None:
        aim = prune_and_train(model, training, schedule, job)
        return f"fine-tuned over {schedule.epochs} epochs of {len(training)} samples towards {aim}"
    prune_once(model, schedule.sparsity)
    return "pruned in one go, without a training set to fine-tune on"
