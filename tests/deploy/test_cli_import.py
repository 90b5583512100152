"""`aerogram import firebase` against a real server: names, tags, files, published state; again and again."""

import json
from hashlib import sha256

import numpy as np
import pytest

from distribution.models import FirebaseModel, Release
from registry.models import AuditEntry, JobState, ModelVersion, Role
from tests import factories
from tests.deploy.test_cli import aerogram, app  # noqa: F401 fixtures

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.light,
    pytest.mark.usefixtures("services", "own_store"),
]


def tflite(seed):
    from tests.sdk.tiny_tflite import float_model

    return float_model(np.arange(12, dtype=np.float32).reshape(3, 4) * seed)


def model(name, content=None, *, published=False, tags=(), uri=""):
    document = {
        "name": f"projects/old-project/models/id_{name}",
        "displayName": name,
        "state": {"published": published},
    }
    if tags:
        document["tags"] = list(tags)
    if content is not None:
        document["modelHash"] = sha256(content).hexdigest()
        document["tfliteModel"] = {
            "gcsTfliteUri": uri or f"gs://old/Firebase/ML/Models/{name}.tflite",
            "sizeBytes": "9",
        }
    return document


@pytest.fixture
def export(tmp_path):
    """A folder as step 1 of docs/migrate-from-firebase.md leaves it: three models, of which one has no file."""
    digits, faces = tflite(1), tflite(2)
    folder = tmp_path / "firebase"
    (folder / "Firebase/ML/Models").mkdir(parents=True)
    (folder / "Firebase/ML/Models/Digits.tflite").write_bytes(digits)
    (folder / "somewhere.tflite").write_bytes(faces)
    models = [model("Digits", digits, published=True, tags=["a", "b"]), model("faces", faces), model("empty")]
    (folder / "models.json").write_text(json.dumps({"models": models}))
    return folder / "models.json"


@pytest.fixture
def bring(aerogram):  # noqa: F811
    def bring(path, *options):
        code, printed = aerogram("--json", "import", "firebase", str(path), "--no-wait", *options)
        return code, json.loads(printed)

    return bring


def actions(document):
    return {row["display_name"]: (row["action"], row["changes"]) for row in document["models"]}


def converted():
    for version in ModelVersion.objects.all():
        version.jobs.update(state=JobState.SUCCEEDED)
        if not version.variants.exists():
            with factories.blob_store().open(version.source.sha256) as stream:
                factories.variant(version, "tflite-as-is", {"model.tflite": stream.read()})


ALL = {
    "Digits": ("create", ["tfliteModel", "tags", "state.published"]),
    "faces": ("create", ["tfliteModel"]),
    "empty": ("create", []),
}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(bring, export):
    code, document = bring(export, "--dry-run")
    assert (code, document["dry_run"], actions(document)) == (0, True, ALL)
    assert FirebaseModel.objects.count() == ModelVersion.objects.count() == 0


def test_names_tags_files_and_published_state_come_over(bring, export):
    code, document = bring(export)
    assert (code, actions(document)) == (4, ALL)  # published, and not at devices yet
    rows = {row["display_name"]: row for row in document["models"]}
    digits = FirebaseModel.objects.get(display_name="Digits")
    assert (digits.tags, digits.published) == (["a", "b"], True)
    assert digits.version.source.sha256 == rows["Digits"]["sha256"] == sha256(tflite(1)).hexdigest()
    assert digits.gcs_uri == "gs://demo/Firebase/ML/Models/Digits.tflite"
    assert (rows["Digits"]["former_id"], rows["Digits"]["model_id"]) == ("id_Digits", digits.model_id)
    assert FirebaseModel.objects.get(display_name="faces").published is False
    assert FirebaseModel.objects.get(display_name="empty").version is None


def test_again_is_unchanged_by_digest(bring, export):
    bring(export)
    converted()
    before = AuditEntry.objects.filter(verb__contains="firebase").count()
    code, document = bring(export)
    assert code == 0
    assert {action for action, _ in actions(document).values()} == {"unchanged"}
    assert ModelVersion.objects.count() == 2
    assert AuditEntry.objects.filter(verb__contains="firebase").count() == before


def test_what_has_changed_in_firebase_since_comes_over(bring, export):
    bring(export)
    converted()
    better = tflite(3)
    (export.parent / "better.tflite").write_bytes(better)
    models = [model("Digits", better, tags=["a"]), model("faces", tflite(2), published=True)]
    export.write_text(json.dumps([{"models": models[:1]}, {"models": models[1:]}]))
    _, document = bring(export)
    assert actions(document) == {
        "Digits": ("update", ["tfliteModel", "tags", "state.published"]),
        "faces": ("update", ["state.published"]),
    }
    digits, faces = FirebaseModel.objects.get(display_name="Digits"), FirebaseModel.objects.get(display_name="faces")
    assert (digits.version.number, digits.tags, digits.published) == (2, ["a"], False)
    assert faces.published is True
    assert Release.objects.get(model_version__model__slug="faces").model_version.number == 1


def test_a_file_with_another_hash_is_not_taken(bring, export):
    (export.parent / "Firebase/ML/Models/Digits.tflite").write_bytes(tflite(9))
    code, document = bring(export)
    rows = {row["display_name"]: row for row in document["models"]}
    assert (code, rows["Digits"]["action"], rows["faces"]["action"]) == (1, "missing_file", "create")
    assert "with another one" in rows["Digits"]["detail"]
    assert not FirebaseModel.objects.filter(display_name="Digits").exists()


def test_what_the_server_refuses_is_told_and_the_rest_comes_over(bring, export):
    content = b"no flatbuffer"
    (export.parent / "broken.tflite").write_bytes(content)
    export.write_text(json.dumps([model("broken", content, published=True), model("faces", tflite(2))]))
    code, document = bring(export)
    rows = {row["display_name"]: row for row in document["models"]}
    assert code == 1
    assert "not verified" in rows["broken"]["detail"]
    assert rows["faces"]["detail"] == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no JSON", "Expecting value"),
        ("3", "expected a model as a JSON object"),
        ('{"models": 3}', "expected a list"),
        ('[{"displayName": "a b"}]', "displayName"),
        ('[{"displayName": "a"}, {"displayName": "a"}]', "each display name once"),
        ('[{"displayName": "a", "tags": [3]}]', "tags"),
        ('[{"displayName": "a", "tfliteModel": {"gcsTfliteUri": "file:///x"}}]', "gs://"),
    ],
)
def test_an_export_of_another_form_is_refused(bring, tmp_path, text, expected):
    path = tmp_path / "models.json"
    path.write_text(text)
    code, told = bring(path)
    assert (code, told["code"], expected in told["detail"]) == (1, "export_refused", True)


def test_an_object_name_leads_nowhere_outside_the_folder(bring, export):
    outside = export.parent.parent / "outside.tflite"
    outside.write_bytes(tflite(5))
    entry = model("sneaky", b"", uri="gs://old/../outside.tflite")
    del entry["modelHash"]
    export.write_text(json.dumps([entry]))
    code, document = bring(export)
    assert (code, document["models"][0]["action"]) == (1, "missing_file")


def test_the_table_for_people(aerogram, export):  # noqa: F811
    code, printed = aerogram("import", "firebase", str(export), "--dry-run", role=Role.VIEWER)
    assert code == 0
    assert "What would be done" in printed
    assert "Digits" in printed
