"""Models that nobody here made: pushed with what they are measured on, published, and run on a device."""

import json
import zipfile

import numpy as np
import pytest

from deploy.demo import pictures
from tests.chaos.stack import APPLICATION, CHANNEL, until
from tests.registry.conftest import shared_model as shared_model  # noqa: PLC0414  a fixture

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]
YES, NO = 2, 3


@pytest.fixture
def phone(stack, tmp_path):
    from deploy.demo.devices import phones

    root = json.dumps(stack.server.root()).encode()
    made = phones(server=stack.device_url, application=APPLICATION, channel=CHANNEL, root=root, stores=tmp_path)
    yield next(phone for phone in made if phone.name == "Android, 3 GB")
    for each in made:
        each.client.close()


@pytest.fixture
def delivered(stack, phone):
    """Push, convert, publish, update: the report of what the device runs now."""

    def deliver(model, source, evaluation_set, labels=None):
        number = stack.server.push(model=model, source=source, evaluation_set=evaluation_set, labels=labels)["number"]
        until(lambda: not stack.open_jobs(model, number), f"conversions of {model}")
        jobs = {job["recipe"]: (job["state"], job["error"]) for job in stack.server.version(model, number)["jobs"]}
        assert {state for state, _ in jobs.values()} <= {"succeeded", "not_applicable"}, jobs
        stack.publish(model, number)
        outcome = phone.update(model)
        assert outcome.version == number, outcome
        variants = {row["name"]: row for row in stack.server.variants(model, number)}
        return variants[outcome.variant]["report"]

    return deliver


def run(phone, model, report, sample):
    [described] = report["signature"]["inputs"]
    outputs = phone.run_once(model, {described["name"]: np.asarray(sample).reshape(described["shape"])})
    return next(iter(outputs.values()))[0]


def test_person_detect_reaches_a_device_repaired(delivered, phone, shared_model, tmp_path):
    from tests.registry.conversion.test_ready_models import picture

    samples = tmp_path / "pictures.zip"
    shown = {"name": "input", "width": 96, "height": 96, "color": "grayscale", "mean": 128, "dtype": "int8"}
    labelled = [{"file": "no_person.bmp", "label": 0}, {"file": "person.bmp", "label": 1}]
    with zipfile.ZipFile(samples, "w") as archive:
        document = {"metric": "accuracy", "input": shown, "samples": labelled}
        archive.writestr("pictures/evaluation.json", json.dumps(document))
        for entry in labelled:
            archive.writestr(f"pictures/{entry['file']}", picture(shared_model(entry["file"])))
    source = shared_model("person_detect.tflite")
    report = delivered("person-detect", source, samples, pictures.LABELS)
    assert (report["accuracy"]["value"], report["accuracy"]["samples"]) == (1.0, 2)
    [described] = report["signature"]["inputs"]
    found = pictures.classify_pictures(phone, source.parent, described["name"])
    assert {name: label for name, label, _ in found} == pictures.PICTURES
    assert phone.outcomes["person-detect"].variant == "tflite-repaired"


def test_micro_speech_reaches_a_device_as_it_is(delivered, phone, shared_model, tmp_path):
    from tests.registry.conversion.speech_features import Preprocessor

    preprocessor = Preprocessor(shared_model("audio_preprocessor_int8.tflite"))
    features = [preprocessor.features(shared_model(f"{word}_1000ms.wav")) for word in ("yes", "no")]
    np.savez(tmp_path / "speech.npz", inputs=np.stack(features), labels=np.array([YES, NO]))
    report = delivered("micro-speech", shared_model("micro_speech_quantized.tflite"), tmp_path / "speech.npz")
    assert report["accuracy"]["value"] == 1.0
    told = [int(np.argmax(run(phone, "micro-speech", report, sample))) for sample in features]
    assert told == [YES, NO]
    assert phone.outcomes["micro-speech"].variant == "tflite-as-is"


def test_hello_world_reaches_a_device_quantised(delivered, phone, shared_model, tmp_path):
    x = np.linspace(0, 6.28, 200, dtype=np.float32).reshape(-1, 1)
    np.savez(tmp_path / "sine.npz", dense_input=x, targets=np.sin(x))
    report = delivered("hello-world", shared_model("hello_world_float.tflite"), tmp_path / "sine.npz")
    assert report["accuracy"]["metric"] == "mse"
    assert phone.outcomes["hello-world"].variant == "tflite-full-int8"
    told = [run(phone, "hello-world", report, sample)[0] for sample in x[::20]]
    assert np.allclose(told, np.sin(x[::20, 0]), atol=0.2), "floats in and out, whatever the file computes in"
