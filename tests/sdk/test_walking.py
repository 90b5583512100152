"""The whole way once: poll, verify, download, load, check, switch, run, report."""

from __future__ import annotations

import numpy as np

from tests.sdk.fake_runtime import IMAGE


def score(client) -> float:
    with client.open("digits") as model:
        return float(model.run({"image": IMAGE})["score"][0, 0])


def test_update_verify_download_run_report(simulator, server, client, release):
    simulator.offer(release(4))
    simulator.publish()

    (outcome,) = client.update(["digits"])

    assert (outcome.state, outcome.version, outcome.variant, outcome.error) == ("updated", 4, "numpy-float", None)
    assert outcome.reason == "current_release"
    assert score(client) == np.float32(12.0)
    sent = client.flush_events()
    events = server.batches[0]["events"]
    assert sent == len(events)
    assert [(event["stage"], event["outcome"]) for event in events] == [
        (stage, "ok")
        for stage in (
            "assigned",
            "offered",
            "download",
            "verify",
            "unpack",
            "compile",
            "sanity",
            "activate",
            "first_inference",
            "inference",
        )
    ]
    assert {(event["model"], event["version"], event["variant"]) for event in events} == {("digits", 4, "numpy-float")}
    assert client.pending_events() == []
