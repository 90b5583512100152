import json
import logging
import os
import sys
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.catalog import CatalogArm, CatalogExperiment, Layer
from distribution.device_plane import poll
from distribution.device_plane.poll import BoundedCache, same_etag
from distribution.device_plane.query import parse_query
from distribution.manifest import parse

POLLS = "/v1/apps/demo/channels/production/manifests"
PHONE = (
    "os=android&os_version=14&runtime=litert&runtime_version=2.1&device=Google/Pixel+8&ram_mb=8192&accelerators=gpu,npu"
)


def test_a_poll_answers_with_the_decision_and_the_manifest_as_it_was_signed(device, published):
    answer = device.get(f"{POLLS}?models=digits,nope&{PHONE}")
    assert answer.status == 200
    assert answer.document["poll_after_seconds"] == 14_400
    digits = answer.document["models"]["digits"]
    assert digits["decision"] == {
        "reason": "current_release",
        "version": 3,
        "variant": "tflite-float32",
        "device_class": "any",
    }
    assert digits["manifest"]["signed"]["model_version"] == 3
    assert answer.document["models"]["nope"] == {"decision": {"reason": "unknown_model"}, "manifest": None}
    stored = published.manifest_bytes(published.models["production", "digits"].versions[3][0].manifest)
    assert stored in answer.body
    assert parse(stored)[0].model_version == 3


def test_the_headers_of_a_poll(device):
    answer = device.get(f"{POLLS}?models=digits&{PHONE}")
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
        "etag": f'"{sha256(answer.body).hexdigest()}"',
        "aerogram-revision": "1",
        "cache-control": "private, max-age=60, no-transform",
        "vary": "Aerogram-Unit",
    }


def test_without_a_unit_the_answer_is_public(anonymous):
    answer = anonymous.get(f"{POLLS}/digits?{PHONE}")
    assert answer.headers["cache-control"] == "public, max-age=60, no-transform"
    assert answer.document["models"]["digits"]["decision"]["reason"] == "no_unit"


def test_a_public_answer_is_never_the_private_one(device, anonymous):
    url = f"{POLLS}?models=nope"
    assert device.get(url).headers["cache-control"].startswith("private")
    assert anonymous.get(url).headers["cache-control"].startswith("public")
    assert device.get(url).headers["cache-control"].startswith("private")


def test_an_unchanged_answer_is_304_with_the_same_tag(device):
    first = device.get(f"{POLLS}?models=digits&{PHONE}")
    again = device.get(f"{POLLS}?models=digits&{PHONE}", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    kept = ("etag", "aerogram-revision", "cache-control", "vary")
    assert again.headers == {name: first.headers[name] for name in kept}
    assert device.get(f"{POLLS}?models=digits&{PHONE}", if_none_match='"other"').status == 200


def test_head_has_the_headers_and_no_body(device):
    get, head = (device.request(method, f"{POLLS}/digits?{PHONE}") for method in ("GET", "HEAD"))
    assert head.headers == get.headers
    assert head.body == b""


def test_units_with_the_same_outcome_share_one_answer(device, published, plane):
    arms = (CatalogArm("control", 3, True, ((0, 10_000),)),)
    ramp = CatalogExperiment("ramp", "rollout", "running", 1, Layer("l", (0, 10_000)), "a", arms)
    published.change("digits", experiments=(ramp,))
    published.publish()
    plane.applications.refresh()
    for index in range(10):
        device.unit = f"unit-{index}"
        device.get(f"{POLLS}/digits?{PHONE}")
    assert len(plane.poll._answers) == 1


def test_a_query_is_understood_once(device, monkeypatch):
    parsed = []
    monkeypatch.setattr(poll, "parse_query", lambda *args: parsed.append(args) or parse_query(*args))
    for index in range(3):
        device.unit = f"unit-{index}"
        assert device.get(f"{POLLS}/digits?{PHONE}").status == 200
    assert len(parsed) == 1


def test_the_same_decision_is_rendered_once(device, plane):
    one = device.get(f"{POLLS}?models=digits&{PHONE}")
    device.unit = "another-unit"
    two = device.get(f"{POLLS}?models=digits&{PHONE}&app_version=2")
    assert one.body == two.body
    assert len(plane.poll._answers) == 1


def test_arms_get_their_own_answers(device, published, plane):
    published.release(
        "digits", 4, {"tflite-float32": {"model.tflite": b"4"}, "coreml-fp16": {"w": b"4"}}, current=False
    )
    arms = (CatalogArm("treatment", 4, False, ((0, 5000),)), CatalogArm("control", 3, True, ((5000, 10_000),)))
    ramp = CatalogExperiment("ramp", "rollout", "running", 1, Layer("l", (0, 10_000)), "a", arms)
    published.change("digits", experiments=(ramp,))
    published.publish()
    plane.applications.refresh()
    versions = set()
    for index in range(40):
        device.unit = f"unit-{index}"
        member = device.get(f"{POLLS}/digits?{PHONE}").document["models"]["digits"]
        assert member["decision"]["version"] == member["manifest"]["signed"]["model_version"]
        versions.add((member["decision"]["arm"], member["decision"]["version"]))
    assert versions == {("treatment", 4), ("control", 3)}


def test_halted_reads_what_the_device_runs_from_the_query(device, published, plane):
    published.release("digits", 4, {"tflite-float32": {"m": b"4"}}, current=False)
    arms = (CatalogArm("treatment", 4, False, ((0, 10_000),)), CatalogArm("control", 3, True, ()))
    halted = CatalogExperiment("ramp", "rollout", "halted", 1, Layer("l", (0, 10_000)), "a", arms)
    published.change("digits", experiments=(halted,))
    published.publish()
    plane.applications.refresh()

    def decision(current):
        return device.get(f"{POLLS}/digits?{PHONE}{current}").document["models"]["digits"]["decision"]

    assert (decision("")["reason"], decision("")["version"]) == ("halted", 3)
    assert decision("&current=faces:4")["version"] == 3
    assert (decision("&current=faces:1,digits:4")["reason"], decision("&current=digits:4")["version"]) == (
        "rollout_treatment",
        4,
    )


def test_the_kill_switch_reaches_the_phone_as_a_signed_manifest(device, published, plane):
    published.kill("digits")
    published.publish()
    plane.applications.refresh()
    member = device.get(f"{POLLS}/digits?{PHONE}").document["models"]["digits"]
    assert member["decision"] == {"reason": "kill_switch"}
    assert member["manifest"]["signed"]["directive"] == "use_embedded"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "models"),
        ("models=", "models"),
        ("models=" + ",".join(f"m{i}" for i in range(51)), "models"),
        ("models=Digits", "models"),
        ("models=a%22b", "models"),
        ("models=digits&models=faces", "models"),
        ("models=digits&os=ANDROID", "os"),
        ("models=digits&os=" + "a" * 33, "os"),
        ("models=digits&os_version=fourteen", "os_version"),
        ("models=digits&app_version=1.2%0a3", "app_version"),
        ("models=digits&runtime=lite%20rt", "runtime"),
        ("models=digits&runtime_version=1..2", "runtime_version"),
        ("models=digits&device=%3Cscript%3E", "device"),
        ("models=digits&soc=" + "x" * 65, "soc"),
        ("models=digits&ram_mb=-1", "ram_mb"),
        ("models=digits&ram_mb=9999999999", "ram_mb"),
        ("models=digits&ram_mb=%D9%A1", "ram_mb"),
        ("models=digits&accelerators=gpu,,npu", "accelerators"),
        ("models=digits&accelerators=" + ",".join("abcdefghijklmnopq"), "accelerators"),
        ("models=digits&current=digits", "current"),
        ("models=digits&current=digits:x", "current"),
        ("models=digits&os=%ff", "query"),
        ("models=digits&x=" + "a" * 9000, "query"),
    ],
)
def test_a_bad_field_is_named(device, query, field):
    answer = device.get(f"{POLLS}?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.document
    assert problem["field"] == field
    assert "expected" in problem["detail"]
    assert "got" in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "code", "field"}


def test_a_bad_model_in_the_path_is_named(device):
    assert device.get(f"{POLLS}/Digits").document["field"] == "model"
    assert device.get(f"{POLLS}/digits?models=faces").document["field"] == "models"


@pytest.mark.parametrize("unit", ["a b", "x" * 129, "ü", "-x", '"'])
def test_a_bad_unit_is_refused_without_being_repeated(device, unit, caplog):
    device.unit = unit
    answer = device.get(f"{POLLS}/digits?{PHONE}")
    assert (answer.status, answer.document["field"]) == (400, "Aerogram-Unit")
    assert unit not in answer.document["detail"]


def test_a_unit_is_never_logged(device, caplog):
    caplog.set_level(logging.DEBUG)
    device.get(f"{POLLS}/digits?{PHONE}")
    device.get(f"{POLLS}/Digits?{PHONE}")
    assert device.unit not in caplog.text


def test_fields_this_version_does_not_know_are_ignored(device):
    assert device.get(f"{POLLS}/digits?{PHONE}&later=1&later=2").status == 200


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/v1/apps/none/channels/production/manifests/digits", "unknown_application"),
        ("/v1/apps/demo/channels/none/manifests/digits", "unknown_channel"),
        ("/v1/apps/demo/channels/production/none", "unknown_path"),
        ("/", "unknown_path"),
        ("/v1/apps/demo/channels/production/manifests/digits/x", "unknown_path"),
    ],
)
def test_what_is_not_there_is_404(device, url, code):
    answer = device.get(url)
    assert (answer.status, answer.document["code"]) == (404, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(device, method):
    answer = device.request(method, f"{POLLS}/digits")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_warm_poll_touches_no_storage(device, tree, monkeypatch):
    """No file is opened, listed or looked at; nothing is rendered or signed, since what is signed lies in the tree."""
    url = f"{POLLS}?models=digits,faces,nope&{PHONE}"
    device.get(url)
    calls, touched, audited = tree.calls.copy(), [], []
    watching = True

    def audit(event, arguments):
        if watching and (event.startswith(("open", "os.", "sqlite3", "socket.connect"))):
            audited.append((event, arguments))

    sys.addaudithook(audit)
    for name in ("stat", "open", "scandir", "listdir"):
        monkeypatch.setattr(os, name, lambda *args, **kwargs: touched.append(args))
    monkeypatch.setattr(json, "dumps", lambda *args, **kwargs: touched.append(args))
    try:
        asked = [
            device.application.poll.answer(*states(device), url.partition("?")[2].encode(), None, f"u{index}")
            for index in range(20)
        ]
    finally:
        watching = False
        monkeypatch.undo()
    assert len({answer.etag for answer in asked}) == 1
    assert (touched, audited) == ([], [])
    assert device.get(url).status == 200
    assert tree.calls == calls


def states(device):
    app = device.application.applications.by_name["demo"]
    return app, app.channels["production"]


def test_answers_of_an_older_revision_are_not_reused(device, published, plane):
    before = device.get(f"{POLLS}/digits?{PHONE}")
    published.release("digits", 5, {"tflite-float32": {"model.tflite": b"5"}})
    published.publish()
    assert device.get(f"{POLLS}/digits?{PHONE}").headers["etag"] == before.headers["etag"]
    plane.applications.refresh()
    after = device.get(f"{POLLS}/digits?{PHONE}")
    assert after.document["models"]["digits"]["decision"]["version"] == 5
    assert after.headers["aerogram-revision"] == "2"


def test_a_revision_that_changes_nothing_keeps_the_tag_and_raises_the_number(device, published, plane):
    before = device.get(f"{POLLS}/digits?{PHONE}")
    published.publish()
    plane.applications.refresh()
    after = device.get(f"{POLLS}/digits?{PHONE}", if_none_match=before.headers["etag"])
    assert (after.status, after.headers["aerogram-revision"]) == (304, "2")


def test_an_expired_timestamp_still_answers(device, plane, published):
    plane.clock = lambda: replace(published, now=published.now).now.replace(year=2031)
    assert device.get(f"{POLLS}/digits?{PHONE}").status == 200
    health = device.get("/healthz").document
    assert health["status"] == "degraded"
    assert health["applications"]["demo"]["timestamp_expires_in_seconds"] < 0


def test_health(device):
    assert device.get("/healthz").document == {
        "status": "ok",
        "applications": {"demo": {"revision": 1, "timestamp_expires_in_seconds": 7 * 86_400, "error": None}},
        "errors": {},
    }


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (b'"a"', True),
        (b'W/"a"', True),
        (b'"b", "a"', True),
        (b'"b",W/"a"', True),
        (b"*", True),
        (b'"b"', False),
        (b'"ba"', False),
        (b"a", False),
        (b"", False),
    ],
)
def test_entity_tags_compare_weakly(header, same):
    assert same_etag(header, b'"a"') is same


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60))
def test_a_cache_keeps_its_bounds(puts):
    cache = BoundedCache(4, 100)
    for key, size in puts:
        cache.put(key, (key, size), size)
        assert len(cache) <= 4
        assert 0 <= cache.bytes <= 100
        assert cache.get(key) == (key, size)
    assert cache.bytes == sum(size for _, size in cache._entries.values())


def test_the_least_recently_used_entry_leaves_first():
    cache = BoundedCache(2, 100)
    cache.put("a", 1, 1)
    cache.put("b", 2, 1)
    cache.get("a")
    cache.put("c", 3, 1)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_what_is_heavier_than_the_cache_is_not_kept():
    cache = BoundedCache(2, 100)
    cache.put("a", 1, 101)
    assert cache.get("a") is None
