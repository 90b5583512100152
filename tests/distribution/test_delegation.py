"""One key for one model: what it may sign, who delegates, and that phones follow."""

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from distribution import services
from distribution.trust import imports
from distribution.trust.ceremony import SignaturesMissing, key_document
from distribution.trust.expected import latest_version
from distribution.trust.roles import TARGETS, model_paths
from registry.errors import NotFound
from tests.distribution.trusted import outcome

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def root(world):
    return world.tree.read("trust/1.root.json")


@pytest.fixture
def delegated(world):
    key = world.folder / "digits.pem"
    key.write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    world.uris["demo/models-digits"] = [f"file:{key}"]
    world.release(1, "faces")
    return world


def signed(world, role):
    return world.tree.targets(role, latest_version(world.application, role)).signed


def test_phones_follow_the_delegation(delegated, phones, root):
    assert {path.split("/")[1] for path in signed(delegated, TARGETS).targets} == {"faces"}
    assert {path.split("/")[1] for path in signed(delegated, "models-digits").targets} == {"digits"}
    phones.refresh()
    phone = phones.phone("one", root)
    assert outcome(phone) == ("updated", 1, None)
    delegated.release(2)
    phones.refresh()
    assert outcome(phone) == ("updated", 2, None)
    assert phones.stock("stock", root).get_targetinfo("models/faces/1/tflite-float32/model.tflite")


def test_a_models_minimum_holds_under_its_own_role(delegated, phones, root):
    delegated.release(2)
    model = delegated.application.registered_models.get(slug="digits")
    services.raise_minimum_release_counter(model=model, value=2, actor="ada", now=delegated.clock())
    delegated.run()
    minimums = {
        target.custom["minimum_release_counter"] for target in signed(delegated, "models-digits").targets.values()
    }
    assert minimums == {2}


def test_a_minimum_that_somebody_lowers_in_the_database_stays(world):
    model = world.application.registered_models.get(slug="digits")
    services.raise_minimum_release_counter(model=model, value=5, actor="ada", now=world.clock())
    world.run()
    model.minimum_release_counter.delete()
    world.release(2)
    assert {target.custom["minimum_release_counter"] for target in signed(world, TARGETS).targets.values()} == {5}


def test_a_row_alone_delegates_nothing_where_a_process_signs(world):
    thief = CryptoSigner.generate_ecdsa()
    imports.tell_key(
        application=world.application,
        role="models-digits",
        document=key_document(thief.public_key),
        actor="thief",
        now=world.clock(),
    )
    pending = imports.pending_targets(world.application, "models-digits", world.clock())
    pending.sign(thief)
    turn = {"application": world.application, "role": "models-digits", "actor": "thief", "now": world.clock()}
    imports.import_targets(document=pending.to_dict(), **turn)
    world.release(2)
    assert "models-digits" not in signed(world, TARGETS).delegations.roles


def test_a_models_role_signs_by_its_own_key_alone(delegated):
    pending = imports.pending_targets(delegated.application, "models-digits", delegated.clock())
    pending.sign(CryptoSigner.generate_ecdsa())
    turn = {"application": delegated.application, "actor": "ada", "now": delegated.clock()}
    with pytest.raises(SignaturesMissing):
        imports.import_targets(role="models-digits", document=pending.to_dict(), **turn)
    with pytest.raises(NotFound):
        imports.pending_targets(delegated.application, "models-nothing", delegated.clock())
    assert isinstance(pending, Metadata)


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_paths_reach_files_in_folders_and_no_other_model(delegated, depth):
    role = signed(delegated, TARGETS).delegations.roles["models-digits"]
    inside = "/".join(["folder"] * (depth - 1) + ["weight.bin"])
    assert role.is_delegated_path(f"models/digits/1/coreml-fp16/{inside}")
    assert not role.is_delegated_path(f"models/faces/1/coreml-fp16/{inside}")
    assert not role.is_delegated_path("catalogs/production.json")
    assert role.paths == model_paths("digits")
