"""The whole way once: poll, verify, download, load, check, switch, run, report."""

from tests.sdk.conftest import score, staged

FUNNEL = ("assigned", "offered", "download", "verify", "unpack", "compile", "sanity", "activate", "first_inference")


def test_update_verify_download_run_report(simulator, server, client, release):
    simulator.offer(release(4))
    simulator.publish()

    (outcome,) = client.update(["digits"])

    assert (outcome.state, outcome.version, outcome.variant, outcome.error) == ("updated", 4, "numpy-float", None)
    assert outcome.reason == "current_release"
    assert 3600 <= outcome.next_poll_seconds <= 4320
    assert score(client) == 12.0
    sent = client.flush_events()
    events = server.batches[0]["events"]
    assert sent == len(events)
    assert [(event["stage"], event["outcome"]) for event in events] == [
        (stage, "ok") for stage in (*FUNNEL, "inference")
    ]
    assert {(event["model"], event["version"], event["variant"]) for event in events} == {("digits", 4, "numpy-float")}
    assert client.pending_events() == []


def test_sanity_is_skipped_where_there_are_no_vectors(simulator, client, release):
    simulator.offer(release(4, sanity=None))
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert ("sanity", "skipped") in staged(client)


def test_batch_carries_profile_and_unit(server, client, installed):
    assert server.batches[0]["profile"] == {"os": "linux", "app_version": "1.0"}
    client.update(["digits"])
    (poll,) = server.asked("/manifests")
    assert poll.headers["aerogram-unit"] == client.unit


def test_poll_query_is_sorted_and_names_what_runs(server, client, installed):
    client.update(["faces", "digits"])
    (poll,) = server.asked("/manifests")
    assert list(poll.query.items()) == [
        ("app_version", "1.0"),
        ("current", "digits:1"),
        ("models", "digits,faces"),
        ("os", "linux"),
    ]


def test_unchanged_answer_costs_one_304_and_no_trust_request(server, client, installed):
    client.update(["digits"])
    server.requests.clear()
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.version) == ("unchanged", 1)
    assert [request.path for request in server.requests] == ["/v1/apps/demo/channels/production/manifests"]
    assert "if-none-match" in server.requests[0].headers


def test_newer_manifest_of_the_same_bundle_installs_nothing(simulator, server, client, installed):
    simulator.offer(installed)
    simulator.publish()
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.version) == ("unchanged", 1)
    assert server.asked("/blobs/") == []
    assert "activate" not in [stage for stage, _ in ((e["stage"], e["outcome"]) for e in client.pending_events())]


def test_unknown_model_changes_nothing(simulator, client, installed):
    (outcome,) = client.update(["faces"])
    assert (outcome.state, outcome.reason, outcome.version) == ("none", "unknown_model", None)
    assert score(client) == 3.0


def test_withdrawn_offer_keeps_what_runs(simulator, client, installed):
    simulator.answer("digits", None, reason="no_compatible_variant")
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.reason, outcome.version) == ("none", "no_compatible_variant", 1)
    assert score(client) == 3.0


def test_assignment_is_reported_once_per_decision(simulator, client, installed):
    entry = simulator.entries["digits"]
    for phase in (1, 1, 2):
        entry["decision"] |= {"experiment": "digits-v4", "phase": phase, "arm": "control"}
        client.update(["digits"])
    told = [(event["stage"], event["experiment"], event["phase"]) for event in client.pending_events()]
    assert told == [("assigned", "digits-v4", 1), ("assigned", "digits-v4", 2)]


def test_assignment_by_no_experiment_says_so(simulator, client, installed):
    simulator.answer("digits", None, reason="no_compatible_variant")
    client.update(["digits"])
    (event,) = client.pending_events()
    assert (event["stage"], event["phase"], "experiment" in event) == ("assigned", 0, False)
