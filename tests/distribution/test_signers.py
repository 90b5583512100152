"""Who signs: files with and without a passphrase, KMS over its protocol, and which one is chosen."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distribution.trust.keys import KeyFolder, KeyUnreadable
from distribution.trust.signers import Keyring, kms_signer, make_key_file, parse_uris, signer_from_uri

PAYLOAD = b"what is signed"


@pytest.mark.parametrize("how", ["file", "env", "asked"])
def test_a_key_under_a_passphrase(tmp_path, monkeypatch, how):
    path = tmp_path / "ann.pem"
    public = make_key_file(path, "correct horse")
    (tmp_path / "pass").write_text("correct horse\n")
    monkeypatch.setenv("THE_PASSPHRASE", "correct horse")
    query = {"file": f"?passphrase_file={tmp_path}/pass", "env": "?passphrase_env=THE_PASSPHRASE", "asked": ""}[how]
    signer = signer_from_uri(f"file+encrypted:{path}{query}", ask=lambda _prompt: "correct horse")
    public.verify_signature(signer.sign(PAYLOAD), PAYLOAD)
    assert (signer.public_key, path.stat().st_mode & 0o777) == (public, 0o600)
    assert b"ENCRYPTED" in path.read_bytes()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file+encrypted:{path}?passphrase_env=NOT_SET", "NOT_SET, which is not set"),
        ("file+encrypted:{path}", "a server can ask nobody"),
        ("file:{path}", "expected a private key at"),
        ("file:/nowhere.pem", "expected a private key at /nowhere.pem"),
        ("gcpkms:projects/p", "got gcpkms:"),
    ],
)
def test_a_key_that_cannot_be_read_is_named(tmp_path, uri, message):
    path = tmp_path / "ann.pem"
    make_key_file(path, "secret")
    with pytest.raises(KeyUnreadable, match=message):
        signer_from_uri(uri.format(path=path))


def test_a_wrong_passphrase_is_refused(tmp_path):
    make_key_file(tmp_path / "ann.pem", "secret")
    with pytest.raises(KeyUnreadable):
        signer_from_uri(f"file+encrypted:{tmp_path}/ann.pem", ask=lambda _prompt: "wrong")


class Kms(ThreadingHTTPServer):
    """AWS KMS over HTTP: JSON 1.1 with X-Amz-Target, GetPublicKey and Sign of a digest, nothing else."""

    def __init__(self, curve):
        super().__init__(("127.0.0.1", 0), KmsHandler)
        self.key = ec.generate_private_key(curve)
        self.algorithm = "ECDSA_SHA_256" if isinstance(curve, ec.SECP256R1) else "ECDSA_SHA_384"
        self.asked = []
        self.refuses = False


class KmsHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        self.server.asked.append((verb, body["KeyId"], self.headers["Authorization"].split()[0]))
        if self.server.refuses:
            return self.answer(400, {"__type": "AccessDeniedException", "message": "not you"})
        return self.answer(200, {"GetPublicKey": self.public_key, "Sign": self.sign}[verb](body))

    def public_key(self, body):
        der = self.server.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"PublicKey": base64.b64encode(der).decode(), "SigningAlgorithms": [self.server.algorithm]}

    def sign(self, body):
        assert (body["MessageType"], body["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_256")
        digest = base64.b64decode(body["Message"])
        signature = self.server.key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return {"KeyId": body["KeyId"], "Signature": base64.b64encode(signature).decode()}

    def answer(self, status, document):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def kms(request, monkeypatch):
    server = Kms(getattr(request, "param", ec.SECP256R1()))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    settings = {"ACCESS_KEY_ID": "AKIATEST", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "eu-central-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    kms_signer.cache_clear()
    yield server
    kms_signer.cache_clear()
    server.shutdown()
    thread.join()
    server.server_close()


def test_kms_signs_what_everybody_can_verify(kms):
    signer = signer_from_uri("awskms:alias/aerogram-targets")
    signer.public_key.verify_signature(signer.sign(PAYLOAD), PAYLOAD)
    again = signer_from_uri("awskms:alias/aerogram-targets")
    assert again.public_key.keyid == signer.public_key.keyid
    assert [verb for verb, *_ in kms.asked] == ["GetPublicKey", "Sign"], "a public half is asked for once"
    assert kms.asked[0][1:] == ("alias/aerogram-targets", "AWS4-HMAC-SHA256")


def test_kms_that_refuses_is_told_as_a_key_that_is_away(kms):
    signer = signer_from_uri("awskms:alias/aerogram-targets")
    kms.refuses = True
    with pytest.raises(KeyUnreadable, match="not you"):
        signer.sign(PAYLOAD)
    kms_signer.cache_clear()
    with pytest.raises(KeyUnreadable, match="awskms:alias/other"):
        signer_from_uri("awskms:alias/other")


@pytest.mark.parametrize("kms", [ec.SECP384R1()], indirect=True, ids=["P-384"])
def test_a_kms_key_that_phones_do_not_verify_is_refused(kms):
    with pytest.raises(KeyUnreadable, match="ecdsa-sha2-nistp256"):
        signer_from_uri("awskms:alias/aerogram-targets")


def test_the_more_exact_entry_wins_and_the_first_is_wanted(tmp_path):
    keys = {name: make_key_file(tmp_path / f"{name}.pem", "") for name in ("any", "old", "new", "demo")}
    entries = [f"*/targets=file:{tmp_path}/any.pem", "*/root=offline:", f"demo/*=file:{tmp_path}/{{application}}.pem"]
    entries += [f"shop/targets=file:{tmp_path}/{name}.pem" for name in ("new", "old")]
    ring = Keyring(parse_uris(entries), KeyFolder(tmp_path / "folder"))

    def found(application, role):
        return [signer.public_key for signer in ring.signers(application, role)]

    assert found("shop", "targets") == [keys["new"], keys["old"]]
    assert found("demo", "targets") == [keys["any"]]
    assert found("demo", "timestamp") == [keys["demo"]]
    assert found("demo", "root") == []
    assert len(ring.signers_or_new("shop", "snapshot")) == 1
    assert ring.names("demo", "targets") is True
    assert ring.names("demo", "timestamp") is False


@pytest.mark.parametrize("entry", ["targets=file:/k", "a/b/c=file:/k", "demo/root", "demo/root=http://k"])
def test_entries_that_say_nothing_are_refused(entry):
    with pytest.raises(ValueError, match="application/role=uri"):
        parse_uris([entry])


def test_without_a_folder_a_role_must_be_named():
    with pytest.raises(KeyUnreadable, match="signer of timestamp for demo"):
        Keyring().signers("demo", "timestamp")
