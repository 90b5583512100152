"""The publisher killed at each of its writes: devices see the old revision or the new one, whole; a later run ends it.

The in-process twin of this test (tests/distribution/test_publishing.py) cuts the power before and after each write;
here the process, its database session and its lock really go.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.stack import APPLICATION, CHANNEL, PATIENCE_SECONDS, Stack, until
from tests.chaos.tree_reader import ReaderLoop, WholeTree
from tests.chaos.watching import Writes

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]
# Manifest, catalog, release index and snapshot appear under a temporary name and then under their own: 8 names. The
# timestamp's temporary file is the 9th, its rename the 10th. 0 is before the first write.
WRITES = 10


def folders(stack: Stack, model: str) -> list[Path]:
    tree = stack.tree
    return [tree / "trust", tree / "targets" / "catalogs", tree / "manifests" / CHANNEL / model]


def kill_at(stack: Stack, writes: Writes, count: int) -> None:
    """kill -9 of the processes that run the worker's tasks when `count` names have appeared in the tree."""
    pool = [process.pid for process in stack.pool("worker")]
    for _ in range(count):
        writes.next(PATIENCE_SECONDS)
    for pid in pool:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def require_true_rows(stack: Stack) -> None:
    """Nothing is called live that devices cannot see. The rows first: the next run may be about to complete."""
    live = stack.rows(
        "SELECT release.live_revision FROM distribution_release release "
        "JOIN registry_channel channel ON channel.id = release.channel_id "
        "JOIN registry_application application ON application.id = channel.application_id "
        "WHERE release.state = 'live' AND application.slug = %s AND channel.slug = %s",
        APPLICATION,
        CHANNEL,
    )
    revision = WholeTree(stack.tree, CHANNEL).revision
    assert live
    assert all(number <= revision for (number,) in live), f"{live} live, the tree is at {revision}"


def require_settled(stack: Stack, model: str, number: int) -> None:
    """The rows say what the tree says, and nothing is left to do."""
    until(lambda: stack.polled_version(model) == number, f"{model}:{number} at devices")
    pending = "SELECT count(*) FROM registry_publishrequest WHERE consumed_at IS NULL"
    until(lambda: stack.rows(pending) == [(0,)], "every publish request to be consumed")
    tree = WholeTree(stack.tree, CHANNEL)
    assert tree.current[model] == number
    newest = (
        "SELECT revision.number, revision.published_at IS NOT NULL FROM distribution_revision revision "
        "JOIN registry_application application ON application.id = revision.application_id "
        "WHERE application.slug = %s ORDER BY revision.number DESC LIMIT 1"
    )
    assert stack.rows(newest, APPLICATION) == [(tree.revision, True)]
    live = (
        "SELECT version.number, release.live_revision <= %s FROM distribution_release release "
        "JOIN registry_modelversion version ON version.id = release.model_version_id "
        "JOIN registry_registeredmodel model ON model.id = version.model_id "
        "WHERE release.state = 'live' AND model.slug = %s"
    )
    assert stack.rows(live, tree.revision, model) == [(number, True)]


def kill_and_complete(stack: Stack, model: str, count: int) -> bool:
    """Publish the other version, kill at a write, let a later run end it. Whether the kill left the old revision."""
    before = WholeTree(stack.tree, CHANNEL).current[model]
    number = 2 if before == 1 else 1
    with Writes(folders(stack, model)) as writes:
        stack.server.publish(CHANNEL, model, number, f"killed at write {count}")
        kill_at(stack, writes, count)
    was_cut_short = WholeTree(stack.tree, CHANNEL).current[model] == before
    require_true_rows(stack)
    stack.ensure_running()
    require_settled(stack, model, number)
    return was_cut_short


def test_a_publisher_killed_at_any_write_leaves_a_whole_tree(stack, released, figures):
    with ReaderLoop(stack.tree, CHANNEL) as reader:
        cut_short = [kill_and_complete(stack, released, count) for count in range(WRITES + 1)]
    assert any(cut_short)
    figures(
        f"{len(cut_short)} kills, {sum(cut_short)} of them before the new revision; "
        f"{len(reader.revisions)} revisions, the tree read whole {reader.passes} times meanwhile"
    )


def test_a_worker_killed_with_its_main_process_is_replaced_by_the_next(stack, released):
    """No message comes back at once: the request's row makes beat ask again."""
    number = 2 if stack.polled_version(released) == 1 else 1
    with ReaderLoop(stack.tree, CHANNEL), Writes(folders(stack, released)) as writes:
        stack.server.publish(CHANNEL, released, number, "the worker killed")
        writes.next(PATIENCE_SECONDS)
        stack.restart("worker")
        require_settled(stack, released, number)
