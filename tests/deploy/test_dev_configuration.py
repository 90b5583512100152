"""What is decided before anything runs: configuration, environment, addresses, locks of dependencies."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import env
from deploy.dev import programs
from deploy.dev.layout import CHECKOUT, Layout, secret
from deploy.dev.postgres import Postgres
from deploy.dev.pytest_plugin import database_of_worker
from deploy.dev.redis_server import RedisServer
from distribution.protection.keyring import Keyring

ADDRESSES = programs.Addresses("127.0.0.1", 8000, 8001)
EMBEDDED = {"DATABASE_URL": "postgresql://embedded", "REDIS_URL": "redis://1", "EVENT_STREAM_URL": "redis://2"}


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "var")
    layout.create()
    return layout


def test_the_event_stream_is_durable_and_private():
    text = RedisServer("events", Path("/x/a b"), 7001, "pw", "always").configuration()
    for line in ("appendonly yes", "appendfsync always", "bind 127.0.0.1", "requirepass pw", 'dir "/x/a b"'):
        assert line in text.splitlines()


def test_a_long_path_moves_the_socket_to_the_temporary_folder():
    near, far = Postgres(Path("/srv/a")), Postgres(Path("/srv") / ("a" * 100))
    assert near.socket_folder == Path("/srv/a/socket")
    assert len(str(far.socket_folder / ".s.PGSQL.5432")) < 107
    assert far.socket_folder != Postgres(Path("/srv") / ("b" * 100)).socket_folder


def test_the_database_url_is_read_by_our_own_reader(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", Postgres(Path("/srv/a b")).url())
    url = env.url("DATABASE_URL", schemes=["postgresql"])
    assert (url.username, url.path, url.query) == ("aerogram", "/aerogram", {"host": "/srv/a b/socket", "port": "5432"})


def test_only_the_signer_is_told_where_the_publisher_keys_are(monkeypatch, layout):
    monkeypatch.setenv("AEROGRAM_PUBLISHER_KEYS_DIR", "/secure/keys")
    variables = programs.environment(layout, ADDRESSES, EMBEDDED)
    assert "AEROGRAM_PUBLISHER_KEYS_DIR" not in variables
    told = {
        part.name: part.environment["AEROGRAM_PUBLISHER_KEYS_DIR"]
        for part in programs.programs(layout, ADDRESSES, variables)
        if "AEROGRAM_PUBLISHER_KEYS_DIR" in part.environment
    }
    assert told == {"signer": "/secure/keys"}


def test_the_callers_variables_win_over_defaults_and_lose_to_embedded_servers(monkeypatch, layout):
    monkeypatch.setenv("AEROGRAM_DEVICE_URL", "https://models.example")
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PGPORT", "9")
    variables = programs.environment(layout, ADDRESSES, EMBEDDED)
    assert variables["AEROGRAM_DEVICE_URL"] == "https://models.example"
    assert variables["AEROGRAM_WEB_URL"] == "http://127.0.0.1:8000"
    assert variables["DATABASE_URL"] == "postgresql://embedded"
    assert "PGPORT" not in variables


def test_variables_of_a_database_of_the_callers_own_are_kept(monkeypatch, layout):
    monkeypatch.setenv("DATABASE_URL", "postgresql://theirs")
    monkeypatch.setenv("PGSSLMODE", "require")
    variables = programs.environment(layout, ADDRESSES, {})
    assert (variables["DATABASE_URL"], variables["PGSSLMODE"]) == ("postgresql://theirs", "require")


def test_every_python_program_is_run_by_this_python(layout):
    parts = programs.programs(layout, ADDRESSES, {})
    assert {part.command[0] for part in parts} == {sys.executable}
    assert [part.name for part in parts] == ["web", "device", "signer", "ingester", "worker", "converter", "beat"]


def test_the_key_service_runs_where_it_has_a_port(layout):
    addresses = programs.Addresses("127.0.0.1", 8000, 8001, 8002)
    variables = programs.environment(layout, addresses, EMBEDDED)
    (part,) = [part for part in programs.programs(layout, addresses, variables) if part.name == "keys"]
    assert part.command[-3:] == ["127.0.0.1", "--port", "8002"]
    path = Path(variables["AEROGRAM_KEY_ENCRYPTION_KEYS_FILE"])
    assert path.stat().st_mode & 0o077 == 0
    assert Keyring.parse(path.read_text()).unwrap(Keyring.parse(path.read_text()).wrap(b"x", "c"), "c") == b"x"


def test_the_key_service_shares_no_port(monkeypatch):
    monkeypatch.setenv("AEROGRAM_KEY_PORT", "8001")
    with pytest.raises(env.EnvError, match="AEROGRAM_KEY_PORT: expected another port"):
        programs.Addresses.read()


def test_the_two_planes_cannot_share_a_port(monkeypatch):
    monkeypatch.setenv("AEROGRAM_WEB_PORT", "8001")
    with pytest.raises(env.EnvError, match="AEROGRAM_DEVICE_PORT: expected another port"):
        programs.Addresses.read()


@pytest.mark.parametrize(("bind", "local"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_the_address_this_machine_uses(bind, local):
    assert programs.Addresses(bind, 1, 2).local == local


def test_secrets_are_private_and_stay_the_same(layout):
    first = secret(layout.secrets, "secret_key")
    assert secret(layout.secrets, "secret_key") == first
    assert len(first) >= 40
    assert (layout.secrets / "secret_key").stat().st_mode & 0o077 == 0
    for folder in (layout.secrets, layout.online_keys, layout.publisher_keys, layout.run):
        assert folder.stat().st_mode & 0o077 == 0


def test_each_pytest_worker_has_its_own_redis_database():
    assert database_of_worker("redis://:p@127.0.0.1:7/0", "gw0") == "redis://:p@127.0.0.1:7/1"
    assert database_of_worker("redis://:p@127.0.0.1:7/0", "gw11") == "redis://:p@127.0.0.1:7/12"


@pytest.mark.parametrize("name", ["server", "light", "convert", "dev", "fast"])
def test_a_lock_pins_every_package_by_hash_and_names_no_index(name):
    text = (CHECKOUT / "deploy" / "locks" / f"{name}.txt").read_text()
    assert not re.search(r"://|--index-url|--extra-index-url|--find-links|--trusted-host| @ |^-e", text, re.MULTILINE)
    requirements = re.split(r"(?<!\\)\n", text.strip())
    assert len(requirements) > 40
    for requirement in requirements:
        assert re.match(r"[a-z0-9.\-]+==[^ ]+ (; .* )?\\\n", requirement), requirement
        assert "--hash=sha256:" in requirement


def test_locks_agree_with_each_other():
    pins: dict[str, set[str]] = {}
    for path in (CHECKOUT / "deploy" / "locks").glob("*.txt"):
        for name, version in re.findall(r"^([a-z0-9.\-]+)==([^ ]+)", path.read_text(), re.MULTILINE):
            pins.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}
    assert "tensorflow-cpu" in pins


def test_the_small_environment_has_no_tensorflow():
    text = (CHECKOUT / "deploy" / "locks" / "fast.txt").read_text()
    assert "pytest==" in text
    assert not re.search(r"^(tensorflow|coremltools|ai-edge-litert)", text, re.MULTILINE)


def test_every_target_has_help_and_help_lists_it():
    listed = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in listed.splitlines()}
    wanted = "run demo test test-fast lint format type bench vectors docs clean lock"
    assert set(wanted.split()) <= names


def test_an_old_python_is_refused_in_words(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        [CHECKOUT / "deploy/dev/install", old, tmp_path / "venv", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "expected Python 3.11 or newer, got Python 3.9.2" in done.stderr
    assert not (tmp_path / "venv").exists()
