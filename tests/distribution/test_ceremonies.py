"""Ceremonies by the command line: files on one side, the server's REST on the other."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from django.core.checks import run_checks
from django.utils import timezone

from deploy.cli.main import cli
from distribution import publishing
from distribution.models import Release
from distribution.trust.publisher import sign_pending
from distribution.trust.signers import Keyring
from distribution.trust.tree import SignedTree
from registry import services as registry_services
from registry.blob_store import blob_store
from registry.models import AuditEntry, Role
from tests import factories
from tests.distribution.trusted import Phones, outcome
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def app():
    return factories.application()


@pytest.fixture
def aerogram(app, live_server, tmp_path, monkeypatch):
    """Run `aerogram --json …` in a folder of its own; with a role it talks to the server. Returns the answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEROGRAM_PASSPHRASE", "correct horse")
    for name in ("AEROGRAM_TOKEN", "AEROGRAM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    user = factories.user("ada")
    registry_services.grant(application=app, user=user, role=Role.ADMINISTRATOR, actor="tests", now=NOW)
    token = factories.token(user)

    def run(*arguments, online=False, code=0):
        told = ["--url", live_server.url, *(["--token", token] if online else []), "--json", *arguments]
        result = CliRunner().invoke(cli, told)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.stderr

    return run


@pytest.fixture
def publish(app):
    return lambda: publishing.publish_application(app, clock=timezone.now)


@pytest.fixture
def keys(aerogram, publish):
    """Ann's, Bob's, Cyd's and the publisher's; the server's public ones."""
    publish()
    names = ("ann", "bob", "cyd", "publisher")
    made = {name: aerogram("trust", "key", f"{name}.pem")["keyid"] for name in names}
    aerogram("trust", "tell-key", "targets", "publisher.pem.pub.json", online=True)
    aerogram("trust", "keys", "--output", "server.json", online=True)
    return made


@pytest.fixture
def first_root(aerogram, keys):
    people = [item for name in ("ann", "bob", "cyd") for item in ("--root-key", f"{name}.pem.pub.json")]
    shown = aerogram("trust", "init", "1.json", "--threshold", "2", "--server-keys", "server.json", *people)
    assert shown["signatures"][0]["missing"] == sorted(keys[name] for name in ("ann", "bob", "cyd"))
    assert shown["roles"]["targets"]["keyids"] == [keys["publisher"]]
    return shown


def test_two_of_three_make_a_root_and_then_another_one(aerogram, keys, first_root, app):
    aerogram("trust", "sign", "1.json", "--key", "ann.pem")
    assert "signatures_missing" in aerogram("trust", "import", "1.json", online=True, code=1)
    assert "document_refused" in aerogram("trust", "sign", "1.json", "--key", "publisher.pem", code=1)
    aerogram("trust", "sign", "1.json", "--key", "cyd.pem")
    assert aerogram("trust", "import", "1.json", online=True)["signed"]["version"] == 1
    assert "version_not_next" in aerogram("trust", "import", "1.json", online=True, code=1)
    aerogram("trust", "key", "dan.pem")
    change = ["--role", "root", "--remove", keys["ann"][:8], "--add", "dan.pem.pub.json"]
    aerogram("trust", "rotate", "1.json", "--output", "2.json", *change)
    for name in ("dan", "bob"):
        aerogram("trust", "sign", "2.json", "--previous", "1.json", "--key", f"{name}.pem")
    shown = aerogram("trust", "status", "2.json", "--previous", "1.json")
    assert [len(item["signed"]) for item in shown["signatures"]] == [2, 1]
    assert "the root before it" in aerogram("trust", "import", "2.json", online=True, code=1)
    aerogram("trust", "sign", "2.json", "--previous", "1.json", "--key", "cyd.pem")
    aerogram("trust", "import", "2.json", online=True)
    assert aerogram("trust", "status", online=True)["root_signed_here"] is False
    assert AuditEntry.objects.filter(verb="import_root", application=app).count() == 2


def test_a_server_that_has_an_imported_root_never_signs_one(aerogram, first_root, app, tmp_path):
    from distribution.trust.keys import KeyFolder

    for name in ("ann", "bob"):
        aerogram("trust", "sign", "1.json", "--key", f"{name}.pem")
    aerogram("trust", "import", "1.json", online=True)
    ring = Keyring({"*/targets": ["offline:"]}, KeyFolder(tmp_path / "publisher"))
    sign_pending(application=app, keys=ring, now=timezone.now())
    assert SignedTree(blob_store(), app.slug).highest_version("root") == 1
    assert not (tmp_path / "publisher").exists()


def test_a_release_is_signed_offline_and_reaches_phones(aerogram, first_root, app, publish, tmp_path):
    for name in ("ann", "bob"):
        aerogram("trust", "sign", "1.json", "--key", f"{name}.pem")
    aerogram("trust", "import", "1.json", online=True)
    version = factories.converted_version(app)
    release(app, version)
    aerogram("sign-release", "export", "next.json", online=True)
    copies = tmp_path / "builds"
    copies.mkdir()
    refused = aerogram(
        "sign-release", "sign", "next.json", "--key", "publisher.pem", "--files", "builds", "--yes", code=1
    )
    assert "your own copy" in refused
    for file in version.variants.get().files.all():
        blob_store().copy_to(file.artifact.sha256, copies / file.path)
    aerogram("sign-release", "sign", "next.json", "--key", "ann.pem", "--yes")
    assert "signatures_missing" in aerogram("sign-release", "import", "next.json", online=True, code=1)
    aerogram("sign-release", "sign", "next.json", "--key", "publisher.pem", "--files", "builds", "--yes")
    aerogram("sign-release", "import", "next.json", online=True)
    publish()
    assert Release.objects.get().state == Release.State.LIVE


@pytest.mark.parametrize("change", ["hash", "counter", "more", "delegation"])
def test_targets_that_say_other_things_than_the_rows_are_refused(aerogram, first_root, app, change):
    for name in ("ann", "bob"):
        aerogram("trust", "sign", "1.json", "--key", f"{name}.pem")
    aerogram("trust", "import", "1.json", online=True)
    release(app, factories.converted_version(app))
    document = aerogram("sign-release", "export", "next.json", online=True)
    _path, target = next(iter(document["signed"]["targets"].items()))
    if change == "hash":
        target["hashes"]["sha256"] = "0" * 64
    elif change == "counter":
        target["custom"]["release_counter"] += 1
    elif change == "more":
        document["signed"]["targets"]["models/digits/9/x/y"] = target
    else:
        document["signed"]["delegations"]["roles"] = []
    Path("next.json").write_text(json.dumps(document))
    aerogram("sign-release", "sign", "next.json", "--key", "publisher.pem", "--yes")
    assert "offline_targets_refused" in aerogram("sign-release", "import", "next.json", online=True, code=1)


def release(app, version):
    from distribution import services

    services.publish(channel=app.channels.get(), version=version, actor="ada", now=timezone.now())


def test_the_minimum_is_raised_and_told(aerogram, app):
    factories.converted_version(app)
    answer = aerogram("raise-minimum", "digits", "3", "--reason", "leaks", online=True)
    assert answer == {"model": "digits", "value": 3}
    entry = AuditEntry.objects.get(verb="raise_minimum_release_counter")
    assert (entry.before, entry.after, entry.reason) == ({"minimum": 1}, {"minimum": 3}, "leaks")
    assert "minimum_would_fall" in aerogram("raise-minimum", "digits", "3", "--reason", "again", online=True, code=1)


def test_a_root_key_on_the_server_is_a_warning(settings, tmp_path):
    assert [item.id for item in run_checks() if item.id == "aerogram.W001"] == []
    from distribution.trust.keys import KeyFolder

    KeyFolder(tmp_path / "publisher").signer_or_new("demo", "root")
    settings.AEROGRAM_PUBLISHER_KEYS_DIR = str(tmp_path / "publisher")
    assert [item.id for item in run_checks() if item.id.startswith("aerogram")] == ["aerogram.W001"]
    settings.AEROGRAM_PUBLISHER_KEYS_DIR = ""
    settings.AEROGRAM_SIGNERS = ["nonsense"]
    assert [item.id for item in run_checks() if item.id.startswith("aerogram")] == ["aerogram.E001"]


def test_health_and_metrics_tell_days_to_expiry(world, client):
    days = client.get("/healthz").json()["trust_expires_in_days"]["demo"]
    assert {role: round(left) for role, left in days.items()} == {
        "root": 365, "targets": 180, "releases-production": 14, "snapshot": 14, "timestamp": 7,
    }  # fmt: skip
    assert client.get("/metrics").status_code == 401
    headers = {"Authorization": f"Bearer {factories.token(factories.user('prometheus', superuser=True))}"}
    body = client.get("/metrics", headers=headers).content.decode()
    assert 'aerogram_trust_expiry_days{application="demo",role="targets"} 180.0' in body
    assert 'aerogram_trust_warnings{application="demo"} 0' in body
    stranger = {"Authorization": f"Bearer {factories.token(factories.user('stranger'))}"}
    assert "demo" not in client.get("/metrics", headers=stranger).content.decode()


def test_the_admins_page_tells_roles_and_warnings(world, client):
    client.force_login(factories.user("root", superuser=True))
    page = client.get("/admin/distribution/trustrole/").content.decode()
    assert "releases-production" in page
    assert world.root.signed.roles["root"].keyids[0] in page


def test_an_app_embeds_root_manifest_and_minimum(world, live_server, tmp_path):
    user = factories.token(factories.user("root", superuser=True))
    arguments = ["--url", live_server.url, "--token", user, "--json", "embed", "digits", "--output"]
    for output in (tmp_path / "app", tmp_path / "app.zip"):
        result = CliRunner().invoke(cli, [*arguments, str(output)])
        assert result.exit_code == 0, result.output
    embedded = json.loads((tmp_path / "app/embedded.json").read_bytes())
    variant = embedded["variants"]["tflite-float32"]
    assert (embedded["minimum_release_counter"], variant["release_counter"]) == (1, 1)
    phones = Phones(world.tree_folder.parent, tmp_path / "phones")
    phone = phones.phone("new", (tmp_path / "app/root.json").read_bytes())
    assert outcome(phone) == ("updated", 1, None)
    phones.close()
