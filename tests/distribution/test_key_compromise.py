"""The drill of docs/how-to/key-compromise.md: each key is stolen, replaced and forgotten, and every phone goes on."""

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from distribution import errors
from distribution.trust import ceremony, imports
from distribution.trust.expected import latest_version
from distribution.trust.publisher import known_keys
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, expiry
from distribution.trust.rotation import forget_retired_keys, rotate_online_key
from distribution.trust.tree import TIMESTAMP_PATH
from tests.distribution.trusted import outcome, stolen

pytestmark = [pytest.mark.django_db(transaction=True)]
FAR = 1_000_000


@pytest.fixture
def root(world):
    return world.tree.read("trust/1.root.json")


@pytest.fixture
def phone(phones, root):
    """It has version 1 and has seen the trust tree as it was."""
    phone = phones.phone("old", root)
    assert outcome(phone) == ("updated", 1, None)
    return phone


def everybody_gets(world, phones, root, phone, number):
    """The phone that was there before, one fresh from the shop, and a stock client."""
    phones.refresh()
    assert outcome(phone) == ("updated", number, None)
    assert outcome(phones.phone(f"fresh-{number}", root)) == ("updated", number, None)
    updater = phones.stock(f"stock-{number}", root)
    target = updater.get_targetinfo(f"models/digits/{number}/tflite-float32/model.tflite")
    assert updater.download_target(target)


def rotate(world, role):
    return rotate_online_key(application=world.application, role=role, actor="ada", now=world.clock())


def forget(world, role):
    return forget_retired_keys(application=world.application, role=role, actor="ada", now=world.clock())


def name_online_keys(world):
    """The ceremony's answer to new online keys: the next root, by two of three."""
    known = known_keys(world.application)
    changes = {role: ceremony.Holders([known[role]]) for role in (SNAPSHOT, TIMESTAMP)}
    world.bring(world.next_root(**changes), "bob", "cyd")


@pytest.mark.parametrize("roles", [[TIMESTAMP], [SNAPSHOT], [SNAPSHOT, TIMESTAMP]], ids="+".join)
def test_online_keys_are_replaced_and_nobody_notices(world, phones, root, phone, roles):
    thieves = [stolen(world.folder / "online", "demo", role) for role in roles]
    for role in roles:
        rotate(world, role)
    world.publish()
    assert outcome(phone) == ("unchanged", 1, None), "both keys sign until the root names the new one"
    for role in roles:
        with pytest.raises(errors.KeyNotInRoot):
            forget(world, role)
    name_online_keys(world)
    world.run()
    assert [forget(world, role) for role in roles] == [1] * len(roles)
    world.release(2)
    pointer = world.tree.current()
    signed_by = {TIMESTAMP: pointer.timestamp_keyids, SNAPSHOT: pointer.snapshot_keyids}
    for role, thief in zip(roles, thieves, strict=True):
        assert signed_by[role] == {world.root.signed.roles[role].keyids[0]} != {thief.public_key.keyid}
    everybody_gets(world, phones, root, phone, 2)


def test_a_fast_forward_by_stolen_online_keys_is_undone_by_new_keys(world, phones, root, phone):
    """The thief signs versions so high that nothing of ours will ever be newer, and a phone has seen them."""
    ours = world.tree.read(TIMESTAMP_PATH)
    fast_forward(world)
    phones.refresh()
    world.clock.advance(days=1, hours=1)
    assert outcome(phones.phone("old", root, clock=world.clock))[2] is None
    world.tree.write_timestamp(ours)
    phones.restart()
    world.clock.advance(days=1, hours=1)
    phone = phones.phone("old", root, clock=world.clock)
    assert outcome(phone) == ("refused", 1, "metadata_rolled_back"), "the phone believes the thief"
    for role in (SNAPSHOT, TIMESTAMP):
        rotate(world, role)
    (world.tree_folder / f"trust/{FAR}.snapshot.json").unlink()
    world.publish()
    name_online_keys(world)
    world.release(2)
    assert world.tree.current().revision < FAR
    everybody_gets(world, phones, root, phone, 2)


def fast_forward(world):
    pointer = world.tree.current()
    keys = {role: stolen(world.folder / "online", "demo", role) for role in (SNAPSHOT, TIMESTAMP)}
    path = world.tree_folder / f"trust/{pointer.snapshot_version}.snapshot.json"
    snapshot = Metadata[Snapshot].from_file(str(path))
    snapshot.signed.version = FAR
    snapshot.sign(keys[SNAPSHOT])
    world.tree.write_new(f"trust/{FAR}.snapshot.json", snapshot.to_bytes())
    timestamp = Metadata(Timestamp(FAR, expires=expiry(TIMESTAMP, world.clock()), snapshot_meta=MetaFile(FAR)))
    timestamp.sign(keys[TIMESTAMP])
    world.tree.write_timestamp(timestamp.to_bytes())


def test_a_channels_key_is_replaced_by_the_publisher(world, phones, root, phone):
    thief = stolen(world.folder / "online", "demo", "releases-production")
    rotate(world, "releases-production")
    world.run()
    assert forget(world, "releases-production") == 1
    world.release(2)
    everybody_gets(world, phones, root, phone, 2)
    targets = world.tree.targets(TARGETS, latest_version(world.application, TARGETS))
    forged = Metadata(Targets(expires=expiry("releases-production", world.clock())))
    forged.sign(thief)
    with pytest.raises(RepositoryError):
        targets.verify_delegate("releases-production", forged)


def test_manifest_versions_that_a_thief_of_the_channels_key_drove_up_are_forgotten_with_it(world, phones, root, phone):
    state = phone._device.store
    with state.changing() as changed:
        changed.seen = {scope: dict.fromkeys(versions, FAR) for scope, versions in changed.seen.items()}
    world.release(2)
    phones.refresh()
    assert outcome(phone) == ("refused", 1, "manifest_replayed")
    rotate(world, "releases-production")
    world.run()
    forget(world, "releases-production")
    world.release(3)
    everybody_gets(world, phones, root, phone, 3)


def test_the_publishers_key_is_replaced(world, phones, root, phone):
    old = stolen(world.folder / "publisher", "demo", TARGETS)
    world.publisher_keys.folder.replace("demo", TARGETS)
    world.run()
    new = known_keys(world.application)[TARGETS]
    assert new.keyid != old.public_key.keyid
    assert outcome(phone) == ("unchanged", 1, None), "both keys sign until the root names the new one"
    world.bring(world.next_root(targets=ceremony.Holders([new])), "ann", "bob")
    world.publisher_keys.folder.forget("demo", TARGETS)
    world.release(2)
    everybody_gets(world, phones, root, phone, 2)
    forged = Metadata(Targets(expires=expiry(TARGETS, world.clock())))
    forged.sign(old)
    with pytest.raises(RepositoryError):
        world.root.verify_delegate(TARGETS, forged)


def test_a_publishers_key_that_is_lost_is_replaced_by_root_and_targets_together(world, phones, root, phone):
    (world.folder / "publisher/demo/targets.pem").unlink()
    new = CryptoSigner.generate_ecdsa()
    next_root = world.next_root(targets=ceremony.Holders([new.public_key]))
    for name in ("ann", "bob"):
        next_root.sign(world.people[name], append=True)
    with pytest.raises(errors.RootOrphansTargets):
        world.bring(next_root)
    targets = imports.pending_targets(world.application, TARGETS, world.clock())
    targets.sign(new)
    world.bring(next_root, targets=targets.to_dict())
    world.publish()
    phones.refresh()
    world.clock.advance(days=1, hours=1)
    phone = phones.phone("old", root, clock=world.clock)
    assert outcome(phone) == ("unchanged", 1, None)
    assert outcome(phones.phone("fresh", root)) == ("updated", 1, None)


def test_one_of_three_root_keys_is_replaced(world, phones, root, phone):
    people = [world.people[name].public_key for name in ("bob", "cyd", "dan")]
    without_old = world.next_root(root=ceremony.Holders(people, 2))
    with pytest.raises(ceremony.SignaturesMissing, match="the root before it"):
        world.bring(without_old, "dan", "bob")
    world.bring(without_old, "cyd")
    stolen_root = world.next_root()
    with pytest.raises(ceremony.SignaturesMissing):
        world.bring(stolen_root, "ann", "bob")
    world.release(2)
    everybody_gets(world, phones, root, phone, 2)
    assert (world.root.signed.version, world.root.signed.roles[ROOT].threshold) == (2, 2)


def test_a_timestamp_that_no_client_would_believe_is_never_written(world):
    before = world.tree.read(TIMESTAMP_PATH)
    (world.folder / "online/demo/timestamp.pem").write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    world.release(2, run=False)
    with pytest.raises(errors.KeyNotInRoot):
        world.run()
    assert world.tree.read(TIMESTAMP_PATH) == before
