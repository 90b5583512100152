"""Cookies, redirects and HSTS follow from the public address, and Django's own list of checks has nothing to add."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS")
PRODUCTION = {
    "AEROGRAM_WEB_URL": "https://models.example.com",
    "AEROGRAM_ALLOWED_HOSTS": "models.example.com",
    "AEROGRAM_SECRET_KEY": "kX7-vq2Lw9_ZtB4mNcR8sYf1Hd6Jg3Pa5Ue0Ti-oWxKbVnMlQ-aSdFgHj",
    "AEROGRAM_BEHIND_PROXY": "true",
}


def run(*command, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEROGRAM_", "DJANGO_"))}
    needed = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none", "AEROGRAM_SECRET_KEY": "unused"}
    return subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=ROOT,
        env={**kept, **needed, **variables},
        capture_output=True,
        text=True,
    )


def settings_of(*names, **variables):
    shown = (
        f"import json; from deploy import settings; print(json.dumps([getattr(settings, n, None) for n in {names}]))"
    )
    finished = run("-c", shown, **variables)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_the_deployment_checks_find_nothing_in_production():
    finished = run("-W", "ignore", "manage.py", "check", "--deploy", "--fail-level", "DEBUG", **PRODUCTION)
    assert (finished.returncode, "no issues" in finished.stdout) == (0, True), finished.stdout + finished.stderr


def test_they_would_find_a_lax_setting():
    lax = {**PRODUCTION, "AEROGRAM_SECURE_COOKIES": "false"}
    finished = run("-W", "ignore", "manage.py", "check", "--deploy", "--fail-level", "WARNING", **lax)
    assert finished.returncode != 0
    assert "security.W012" in finished.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [False, False, False, 0]),
        ({"AEROGRAM_WEB_URL": "https://x.example"}, [True, True, True, 31_536_000]),
        ({"AEROGRAM_WEB_URL": "https://x.example", "AEROGRAM_HSTS_SECONDS": "1h"}, [True, True, True, 3600]),
        ({"AEROGRAM_WEB_URL": "https://x.example", "AEROGRAM_SSL_REDIRECT": "no"}, [True, True, False, 31_536_000]),
        ({"AEROGRAM_SECURE_COOKIES": "yes"}, [True, True, False, 0]),
    ],
)
def test_it_follows_from_the_address_and_each_part_can_be_told_otherwise(variables, expected):
    assert settings_of(*NAMES, **variables) == expected


def test_a_forwarded_scheme_is_believed_only_when_told_to():
    assert settings_of("SECURE_PROXY_SSL_HEADER") == [None]
    assert settings_of("SECURE_PROXY_SSL_HEADER", AEROGRAM_BEHIND_PROXY="1") == [["HTTP_X_FORWARDED_PROTO", "https"]]


def test_the_health_check_is_not_redirected(client, settings, db):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/healthz").status_code == 200
    assert client.get("/api/v1/applications").status_code == 301
