import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "sdk_stubs" / "python"))


@pytest.fixture
def world(services, own_store, tmp_path):
    """A server whose root two of three people signed, with its first version released."""
    from tests.distribution.trusted import World

    world = World(tmp_path)
    world.begin()
    world.release(1)
    return world


@pytest.fixture
def phones(world, tmp_path):
    from tests.distribution.trusted import Phones

    phones = Phones(world.tree_folder.parent, tmp_path / "phones")
    yield phones
    phones.close()
