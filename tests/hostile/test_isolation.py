"""Hostile code, really run in the confined worker: contained, named in the report, and gone afterwards."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.conversion import supervision
from registry.conversion.leavings import remove_tree
from registry.conversion.report import Report
from registry.conversion.supervision import GIB, Limits, Progress, supervise
from registry.conversion.worker.job import Job
from tests.lifeline import Lifeline

pytestmark = pytest.mark.chaos

MODULE = "tests.hostile.hostile_worker"
REAL_MODULE = "registry.conversion.worker"
MIB = 1024**2
LIMITS = Limits(wall_seconds=120, cpu_seconds=60, address_space_bytes=2 * GIB, resident_bytes=GIB)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "WORKER_MODULE", MODULE)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "workspace"
    (folder / "output").mkdir(parents=True)
    yield folder
    remove_tree(folder)
    assert not folder.exists()


def run(behaviour: str, workspace: Path, limits: Limits = LIMITS, on_heartbeat=lambda _: None, **members) -> Report:
    def job(scratch: Path) -> Job:
        return Job(step="verify", output=workspace / "output", scratch=scratch, recipe=behaviour, **members)

    report = supervise(job, limits=limits, on_heartbeat=on_heartbeat, workspace=workspace)
    assert not list(workspace.glob("aerogram-conversion-*")), "a scratch folder was left behind"
    return report


def outcome(report: Report) -> tuple[str, str]:
    return report.state, report.error.code if report.error else ""


def require_whole_isolation(report: Report, told: int = 0) -> None:
    if len(report.notes) > told:
        pytest.skip(f"this kernel isolates less: {report.notes[told:]}")


# -- ways out


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What there is to be stolen, written over or reached; every file is readable and writable by everybody."""
    keys = tmp_path / "var" / "keys"
    keys.mkdir(parents=True)
    key = keys / "targets.pem"
    key.write_text("secret")
    key.chmod(0o666)
    abstract = f"aerogram-hostile-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as unnamed,
    ):
        unnamed.bind("\0" + abstract)
        unnamed.listen()
        named.bind(str(keys / "socket"))
        named.listen()
        (keys / "socket").chmod(0o777)
        found = {"key": str(key), "port": tcp.getsockname()[1], "abstract": abstract, "named": str(keys / "socket")}
        yield {**found, "supervisor": os.getpid()}


def require_nothing_done(report: Report, targets: dict[str, Any]) -> dict[str, Any]:
    assert report.state == "succeeded", (report.error, report.log_tail)
    require_whole_isolation(report, told=1)
    told: dict[str, Any] = json.loads(report.notes[0])
    assert told["done"] == []
    assert len(told["processes"]) == 2  # its init and itself
    assert not {"DATABASE_URL", "AEROGRAM_SECRET_KEY"} & set(told["environment"])
    assert Path(targets["key"]).read_text() == "secret"
    return told


@pytest.fixture
def given(workspace: Path, targets: dict[str, Any]) -> dict[str, Path]:
    """What the job may read, and no more than that."""
    source, evaluation_set = workspace / "source.json", workspace / "evaluation_set.npz"
    source.write_text(json.dumps(targets))
    evaluation_set.write_bytes(b"samples")
    return {"source": source, "evaluation_set": evaluation_set}


def test_no_way_leads_out(workspace: Path, targets: dict[str, Any], given: dict[str, Path]) -> None:
    told = require_nothing_done(run("look_for_ways_out", workspace, **given), targets)
    if os.getuid() == 0:
        assert told["user"] == pwd.getpwnam("nobody").pw_uid
    assert given["evaluation_set"].read_bytes() == b"samples"
    assert not (workspace / "beside").exists()


def supervised(workspace: Path, behaviour: str, refused: list[str], **members: Any) -> dict[str, Any]:
    """The report of a job whose supervisor is a process of its own: `as_user` whom, on what kernel."""
    user = members.pop("as_user", None)
    asked = {
        "module": members.pop("module", MODULE),
        "refused": refused,
        "workspace": str(workspace),
        "user": members.pop("user", "nobody"),
        "job": {"step": "verify", "output": str(workspace / "output"), "recipe": behaviour, **members},
    }
    program = [sys.executable, "-m", "tests.hostile.supervised", json.dumps(asked)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600, user=user)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def nobodys(workspace: Path) -> Iterator[Path]:
    """A workspace of an ordinary user's, where that user can get at it."""
    nobody = pwd.getpwnam("nobody")
    try:
        subprocess.run([sys.executable, "-c", ""], user=nobody.pw_uid, check=True)
    except PermissionError:
        pytest.skip(f"nobody may not run {sys.executable}: it, or what it links to, lies in somebody's own folder")
    folder = Path("/var/tmp") / f"aerogram-{os.getpid()}"
    shutil.copytree(workspace, folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_no_way_leads_out_of_an_ordinary_users_worker(
    nobodys: Path, targets: dict[str, Any], given: dict[str, Path]
) -> None:
    for name, path in given.items():
        shutil.copyfile(path, nobodys / path.name)
        given = {**given, name: nobodys / path.name}
    members = {name: str(path) for name, path in given.items()}
    report = supervised(nobodys, "look_for_ways_out", [], as_user="nobody", **members)
    require_nothing_done(Report.from_json(report), targets)


# -- too much of something


@pytest.mark.parametrize(
    ("behaviour", "limits", "expected"),
    [
        ("fork_without_end", {"tasks": 64, "resident_bytes": 16 * GIB}, ("failed", "processes")),
        ("fill_memory_in_daemons", {"resident_bytes": 200 * MIB}, ("out_of_memory", "resident_memory")),
        ("burn_in_threads", {"cpu_seconds": 1}, ("timed_out", "cpu_time")),
        ("burn_in_processes", {"cpu_seconds": 1}, ("timed_out", "cpu_time")),
        ("write_many_files", {"disk_files": 500}, ("failed", "disk_space")),
        ("write_many_bytes", {"disk_bytes": 100 * MIB}, ("failed", "disk_space")),
        ("write_deep_folders", {}, ("failed", "disk_space")),
        ("ignore_signals", {"wall_seconds": 1}, ("timed_out", "wall_time")),
        ("print_a_gigabyte", {}, ("succeeded", "")),
        ("close_stdout", {}, ("succeeded", "")),
    ],
)
def test_too_much_of_something_is_stopped_and_named(
    workspace: Path, behaviour: str, limits: dict[str, Any], expected: tuple[str, str]
) -> None:
    report = run(behaviour, workspace, replace(LIMITS, **limits))
    assert outcome(report) == expected, report.log_tail
    assert report.seconds < LIMITS.wall_seconds
    assert len(report.log_tail) <= 8_000


def test_a_worker_that_kills_all_it_can_kills_only_itself(workspace: Path) -> None:
    report = run("kill_all_it_can", workspace)
    require_whole_isolation(report)
    assert report.state in {"succeeded", "crashed"}


def test_another_job_does_not_notice_a_fork_bomb(workspace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "output").mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(run, "fork_without_end", workspace, replace(LIMITS, tasks=200, resident_bytes=16 * GIB))
        while not bomb.done():
            assert outcome(run("behave", other)) == ("succeeded", "")
        assert outcome(bomb.result()) == ("failed", "processes")


# -- lasting longer than the job


@pytest.fixture
def lifeline(workspace: Path) -> Iterator[Lifeline]:
    with Lifeline(workspace / "output") as line:
        yield line


def test_a_daemon_does_not_survive_its_job(workspace: Path, lifeline: Lifeline) -> None:
    assert outcome(run("daemonise", workspace)) == ("succeeded", "")
    assert (lifeline.read(0), lifeline.read(0)) == (b"alive", b"")


@needs_root
def test_a_daemon_does_not_survive_its_job_without_namespaces_either(workspace: Path, lifeline: Lifeline) -> None:
    report = supervised(workspace, "daemonise", ["unshare"])
    assert report["state"] == "succeeded", report["log_tail"]
    assert (lifeline.read(0), lifeline.read(0)) == (b"alive", b"")


# -- lies


@pytest.mark.parametrize(
    "behaviour",
    [
        "forge_absolute_path",
        "forge_path_upwards",
        "forge_link",
        "forge_linked_folder",
        "forge_pipe",
        "forge_second_name",
        "forge_digest",
        "forge_size",
        "forge_folder",
        "forge_entry",
        "forge_nul",
        "forge_surrogate",
        "leave_linked_result",
        "leave_pipe_as_result",
        "leave_huge_result",
        "leave_deep_result",
    ],
)
def test_a_forged_result_is_refused(workspace: Path, behaviour: str) -> None:
    report = run(behaviour, workspace)
    assert outcome(report) == ("failed", "bad_result"), report
    assert not report.files
    json.dumps(report.to_json(), ensure_ascii=False).encode()  # can be stored


def test_forged_progress_is_bounded(workspace: Path, lifeline: Lifeline) -> None:
    heard: list[Progress] = []
    run("tell_nonsense", workspace, replace(LIMITS, wall_seconds=1.5), on_heartbeat=heard.append)
    assert heard
    assert all(0 <= said.percent <= 100 and said.step.isprintable() for said in heard)


# -- kernels that refuse


@pytest.fixture
def saved_model(workspace: Path) -> Path:
    """Named as one; isolation is looked at before anything else."""
    path = workspace / "source.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("saved_model.pb", b"")
    return path


@needs_root
@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (["unshare"], "ran without network isolation: own_namespaces: unshare"),
        (["landlock"], "ran without file isolation: restrict_files: Landlock"),
    ],
)
@pytest.mark.parametrize("as_user", [None, "nobody"])
def test_a_saved_model_is_refused_where_the_kernel_refuses_isolation(
    nobodys: Path, saved_model: Path, refused: list[str], said: str, as_user: str | None
) -> None:
    shutil.copyfile(saved_model, nobodys / "source.zip")
    members = {"module": REAL_MODULE, "step": "trace", "source_format": "saved_model", "as_user": as_user}
    source = str(nobodys / "source.zip")
    report = supervised(nobodys, "", refused, trace_recipe="trace", source=source, **members)
    assert report["state"] == "failed", report
    assert report["error"]["code"] == "no_isolation"
    assert said in report["error"]["detail"]
    assert any(said in note for note in report["notes"])


@needs_root
def test_root_stays_root_without_rights_where_it_cannot_be_another(workspace: Path) -> None:
    report = supervised(workspace, "behave", [], user="no-such-user")
    assert report["state"] == "succeeded"
    assert report["notes"] == ["ran without a user of its own: expected a user of this system; got 'no-such-user'"]
