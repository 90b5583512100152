"""Private keys as files: who can read them, and what happens when they are damaged."""

import stat

import pytest

from distribution.trust.keys import KeyFolder, KeyUnreadable


def test_a_key_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    keys = KeyFolder(tmp_path / "keys")
    first = keys.signer_or_new("demo", "root")
    assert keys.signer_or_new("demo", "root").public_key == first.public_key
    path = keys.path("demo", "root")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert first.public_key.scheme == "ecdsa-sha2-nistp256"


@pytest.mark.parametrize("content", [None, b"", b"no key"])
def test_a_missing_or_damaged_key_is_named_and_never_replaced(tmp_path, content):
    keys = KeyFolder(tmp_path)
    path = keys.path("demo", "root")
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(KeyUnreadable, match="private key of root for demo"):
        keys.signer("demo", "root")
    if content is not None:
        with pytest.raises(KeyUnreadable):
            keys.signer_or_new("demo", "root")
        assert path.read_bytes() == content


def test_a_half_written_key_of_a_crash_is_no_key(tmp_path):
    keys = KeyFolder(tmp_path)
    path = keys.path("demo", "root")
    path.parent.mkdir()
    path.with_suffix(".partial").write_bytes(b"half")
    keys.signer_or_new("demo", "root")
    assert not path.with_suffix(".partial").exists()
