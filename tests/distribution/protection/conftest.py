from base64 import b64encode

import pytest

KEK = bytes(range(32))


@pytest.fixture
def kek(settings, tmp_path):
    """The file of key-encryption keys, with one in it."""
    path = tmp_path / "kek"
    path.write_text(b64encode(KEK).decode() + "\n")
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = str(path)
    return path
