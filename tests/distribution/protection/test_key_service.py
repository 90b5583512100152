"""The key service as the process that operators start, behind the nginx that is shipped."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest
from django.db import connection

from deploy.dev import ports
from deploy.dev.children import Child, Part
from distribution import services
from distribution.models import AttestationSettings, ContentKey, ModelProtection
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from distribution.protection.handover import Answer, from_base64, take_over, to_base64
from tests import factories
from tests.distribution.protection.installation import Installation
from tests.factories import NOW
from tests.nginx.conftest import PROGRAM, nginx_of

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("services", "own_store"),
    pytest.mark.skipif(PROGRAM is None, reason="needs nginx"),
]
CHECKOUT = Path(__file__).parents[3]


def database_url():
    """Of the test database, for another process."""
    told = connection.settings_dict
    user = f"{quote(told['USER'])}:{quote(told['PASSWORD'] or '')}@" if told["USER"] else ""
    host = str(told["HOST"] or "")
    if host.startswith("/"):
        return f"postgresql://{user}/{told['NAME']}?{urlencode({'host': host})}"
    return f"postgresql://{user}{host}:{told['PORT']}/{told['NAME']}"


def is_up(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def key(kek):
    version = factories.converted_version(factories.application())
    ModelProtection.objects.create(model=version.model, is_on=True)
    AttestationSettings.objects.create(application=version.model.application, mode="none")
    services.publish(channel=version.model.application.channels.get(), version=version, actor="ada", now=NOW)
    encrypt_pending(application=version.model.application, now=NOW)
    return ContentKey.objects.get()


@pytest.fixture
def front(key, kek, tmp_path):
    """nginx's port, with the key service behind it and no device plane."""
    with ports.reserved() as service_port, ports.reserved() as front_port, ports.reserved() as nobody:
        yield from running(kek, tmp_path, service_port, front_port, nobody)


def running(kek, tmp_path, service_port, front_port, nobody):
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(service_port), "--no-ws"]
    variables = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url(),
        "AEROGRAM_SECRET_KEY": "of the key service",
        "AEROGRAM_KEY_ENCRYPTION_KEYS_FILE": str(kek),
    }
    part = Part(
        name="keys",
        command=[*command, "deploy.key_service:application"],
        environment=variables,
        working_folder=CHECKOUT,
        is_ready=lambda: is_up(service_port),
    )
    nginx = nginx_of(tmp_path, nobody, front_port)
    configuration = tmp_path / "aerogram.conf"
    configuration.write_text(configuration.read_text().replace("127.0.0.1:8002", f"127.0.0.1:{service_port}"))
    children = [Child(part, run=tmp_path, logs=tmp_path), nginx]
    try:
        for child in children:
            child.start()
            child.wait_until_ready()
        yield front_port
    finally:
        for child in reversed(children):
            child.stop()


def test_a_key_through_the_front_door(front, key):
    phone = Installation(key.key_id)
    with httpx.Client(base_url=f"http://127.0.0.1:{front}", trust_env=False, timeout=60) as http:
        unit = {"Aerogram-Unit": phone.unit}
        told = http.post(f"{phone.url}/challenges", json={"channel": "production"}, headers=unit)
        assert told.status_code == 201, told.text
        challenge = told.json()["challenge"]
        body = {"channel": "production", "challenge": challenge, "public_key": to_base64(phone.public_key)}
        answer = http.post(phone.url, json=body, headers=unit)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        sealed = Answer(from_base64(answer.json()["public_key"]), from_base64(answer.json()["ciphertext"]))
        opened = take_over(sealed, phone.key, phone.binding(from_base64(challenge)))
        assert opened == unwrapped(key, key_encryption_keys())
        assert http.post(phone.url, json=body, headers=unit).json()["code"] == "challenge_refused"
        assert http.post(phone.url, content=bytes(65 << 10)).status_code == 413

        def status(_number: int) -> int:
            return http.post(f"{phone.url}/challenges", json={}, headers=unit).status_code

        # At once: one after the other, a slow key service would keep them to the rate that is allowed.
        with ThreadPoolExecutor(100) as several:
            assert 429 in set(several.map(status, range(100))), "so many of one address, and no more"
