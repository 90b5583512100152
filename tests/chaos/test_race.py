"""Publishes that race, a smaller share of them; the whole is `python -m tests.chaos.race`."""

import os
from urllib.parse import urlsplit

import pytest
from django.db import connection

from tests.chaos.race import race

PUBLISHES = int(os.environ.get("AEROGRAM_RACE_PUBLISHES", "60"))
PROCESSES = int(os.environ.get("AEROGRAM_RACE_PROCESSES", "4"))


@pytest.mark.chaos
@pytest.mark.django_db(transaction=True)
def test_publishes_that_race_leave_every_tree_valid_and_lose_nothing(services, own_store, tmp_path, figures):
    variables = {
        "DATABASE_URL": urlsplit(services.database_url)._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
        "BLOB_STORE_URL": own_store.as_uri(),
        "AEROGRAM_ONLINE_KEYS_DIR": str(tmp_path / "online"),
        "DJANGO_SETTINGS_MODULE": "deploy.settings",
    }
    told = race(publishes=PUBLISHES, processes=PROCESSES, applications=5, folder=tmp_path, variables=variables)
    assert told.revisions > told.applications
    assert told.checker_passes > told.applications
    figures(f"{told}")
