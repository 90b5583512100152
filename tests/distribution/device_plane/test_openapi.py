"""Requests made from docs/device-plane.openapi.yaml, right and wrong ones alike: each is answered as it says there."""

import ast
import gzip
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests

from distribution.device_plane.app import create_app
from distribution.device_plane.events import OUTCOMES, STAGES
from distribution.device_plane.firebase import Facade
from distribution.device_plane.tree import LocalTree
from registry.storage_urls import sign
from tests.distribution.firebase.conftest import BASE, KEY
from tests.simulators import NOW, DeviceSimulator, MemorySink, PublishedTree

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode, Response  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from distribution.decision import Reason  # noqa: E402

ROOT = Path(__file__).parents[3]
SCHEMA = schemathesis.openapi.from_path(ROOT / "docs/device-plane.openapi.yaml")
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
EXAMPLES = 40
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree")
    tree.release("digits", 1, {"tflite-float32": {"model.tflite": b"float32 weights"}})
    tree.publish()
    return tree


@pytest.fixture
def ask(published):
    facade = Facade(BASE, KEY, lifetime=timedelta(hours=1))
    plane = create_app(LocalTree(published.root), MemorySink(), clock=lambda: NOW, reader_threads=2, facade=facade)
    plane.applications.refresh()
    device = DeviceSimulator(plane)

    def ask(prepared):
        """As a server hands it on: the path decoded."""
        url = urlsplit(prepared.url)
        path = unquote(url.path).replace("?", "")  # the simulator's own mark of a query
        headers = {name: value for name, value in prepared.headers.items() if value is not None}
        body = prepared.body or b""
        answer = device.request(
            prepared.method, f"{path}?{url.query}", headers, body.encode() if isinstance(body, str) else body
        )
        content = gzip.decompress(answer.body) if "content-encoding" in answer.headers and answer.body else answer.body
        told = {name: [value] for name, value in answer.headers.items()}
        return Response(answer.status, told, content, prepared, 0.0, verify=False)

    yield ask
    plane.executor.shutdown()
    plane.loader.shutdown()


@pytest.fixture
def names(published):
    """Names that lead somewhere, for parts of a path; and one that does not."""
    (target,) = published.released.values()
    digest = target.hashes["sha256"]
    folder, _, name = target.path.rpartition("/")
    lists = published.folder / "patches"
    lists.mkdir()
    manifests = [
        str(path.relative_to(published.folder / "manifests")) for path in published.folder.glob("manifests/**/*.json")
    ]
    (lists / f"{digest}.json").write_text('{"signed": {}, "signatures": []}')
    return {
        "application": ["demo", "demo", "demo", "none"],
        "channel": ["production", "production", "none"],
        "model": ["digits", "none"],
        "key": ["model.digits", "model.none", "digits"],
        "display_name": ["digits", "none"],
        "digest": [digest, digest, "0" * 64],
        "file": ["1.root.json", "timestamp.json", "9.root.json", "../../x.json"],
        "manifest": [*manifests, "../x.json", "production/digits/9.none.json"],
        "path": [f"{folder}/{digest}.{name}", f"models/{digest}.x", "../x"],
        "name": ["digits.tflite"],
    }


def test_each_operation_answers_as_described(ask, names):
    statuses = {}
    for operation in OPERATIONS:
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            fuzz(operation, mode, ask, names, statuses.setdefault(operation.label, set()))
    for label, seen in statuses.items():
        assert seen & {200, 202, 206}, (label, seen)
        assert seen & {400, 404} or "healthz" in label, (label, seen)
    assert set().union(*statuses.values()) >= {200, 202, 206, 400, 403, 404, 405, 416}


def fuzz(operation, mode, ask, names, seen):
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case, data):
        for name in sorted(set(case.path_parameters or {}) & set(names)):
            if data.draw(st.sampled_from([True, True, False])):
                case.path_parameters[name] = data.draw(st.sampled_from(names[name]))
        try:
            prepared = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
        except (requests.RequestException, UnicodeError):
            return  # no client can send it
        if "/files/" in operation.path and data.draw(st.booleans()):
            hours = data.draw(st.sampled_from([1, 1, -2]))
            prepared.url = sign(f"{BASE}{urlsplit(prepared.url).path}", NOW + timedelta(hours=hours), KEY)
        if data.draw(st.sampled_from([True, False])) and operation.method == "get":
            prepared.headers["Range"] = data.draw(
                st.sampled_from(["bytes=0-3", "bytes=-2", "bytes=99999-", "lines=1-"])
            )
        if data.draw(st.integers(0, 9)) == 0 and operation.method != "head":
            prepared.method = data.draw(st.sampled_from(["DELETE", "PUT", "PATCH", "OPTIONS"]))
        answer = ask(prepared)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    try:
        run()
    except Exception as error:
        if type(error).__name__ not in ("Unsatisfiable", "InvalidArgument"):
            raise


def test_a_conditional_request_is_described(ask):
    url = f"{BASE}/v1/apps/demo/channels/production/catalog"
    tag = ask(requests.Request("GET", url).prepare()).headers["etag"][0]
    assert ask(requests.Request("GET", url, headers={"If-None-Match": tag}).prepare()).status_code == 304


def routes():
    """Of each `case ["", …]` by which the device plane finds its way, the fixed words; None for what varies."""
    for source in ("app.py", "firebase.py"):
        tree = ast.parse((ROOT / "distribution/device_plane" / source).read_text())
        for pattern in (node for node in ast.walk(tree) if isinstance(node, ast.MatchSequence)):
            words = [part.value.value if isinstance(part, ast.MatchValue) else None for part in pattern.patterns]
            if words[0] == "" and words[-1] != "live":
                yield tuple(words[1:])


def test_the_document_has_every_route_and_no_other():
    described = {
        tuple(None if part.startswith("{") else part for part in operation.path.split("/")[1:])
        for operation in OPERATIONS
    }
    assert described == set(routes())


def test_words_are_those_of_the_code():
    schemas = SCHEMA.raw_schema["components"]["schemas"]
    decision = schemas["Poll"]["properties"]["models"]["additionalProperties"]["properties"]["decision"]
    assert decision["properties"]["reason"]["enum"] == [reason.value for reason in Reason]
    assert schemas["Event"]["properties"]["stage"]["enum"] == list(STAGES)
    assert schemas["Event"]["properties"]["outcome"]["enum"] == list(OUTCOMES)
