"""A Swift compiler beside the system: Debian 13's own packages, in a folder below var/ that nothing else uses.

    python -m tests.sdk.swift_toolchain

fetches them (0.6 GB; 1.6 GB once unpacked) and builds `sdk_stubs/swift`. Nothing is installed: apt downloads by a
configuration of its own and verifies Debian's signatures, the packages are unpacked without their scripts, and the
compiler runs with that folder as its root, in a namespace that ends with it. Removing the folder removes everything.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.dev.layout import CHECKOUT

FOLDER = CHECKOUT / "var" / "swift"
SYSTEM = FOLDER / "system"
STUBS = CHECKOUT / "sdk_stubs"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

RELEASE = "trixie"
PACKAGES = ["swiftlang", "libc6-dev", "libstdc++-14-dev", "zlib1g-dev"]
# Half of what is in the packages: debuggers, editors' services, other platforms, manuals.
LEFT_OUT = [
    *("*/liblldb*", "*/lldb-server", "*/libsourcekitd*", "*/sourcekit-lsp", "*/clangd", "*/libLTO*", "*/bin/docc"),
    *("*/bin/swift-format", "*/lib/swift/embedded", "*/lib/swift_static", "*/FrameworkABIBaseline"),
    *("./usr/share/doc", "./usr/share/man", "./usr/share/locale"),
]
RECIPE = "\n".join([RELEASE, *PACKAGES, *LEFT_OUT])
VARIABLES = {
    "PATH": "/usr/libexec/swift/bin:/usr/bin:/usr/sbin:/bin:/sbin",
    "HOME": "/tmp",  # inside the folder that becomes the root
    "LC_ALL": "C.UTF-8",
}
# $1 the folder that becomes the root, $2 the sources, which stay read-only; the mounts vanish with the namespace.
ENTER = """set -e
mount -t proc proc "$1/proc"
mount --bind /dev/null "$1/dev/null"
mount --bind "$2" "$1/sdk_stubs"
mount -o remount,bind,ro "$1/sdk_stubs"
root=$1; shift 2
exec chroot "$root" "$@"
"""


class Missing(Exception):
    """There is no Swift here; the message says what it would take."""


def require() -> None:
    """Set up in CI as root, where everything can be installed and a skip would hide a failure; elsewhere skip."""
    if os.environ.get("CI") and os.geteuid() == 0:
        try:
            set_up()
        except Missing as missing:
            pytest.fail(f"needs {missing}")
    elif not is_set_up():
        pytest.skip("needs Swift (python -m tests.sdk.swift_toolchain)")


def is_set_up() -> bool:
    recipe = SYSTEM / "recipe"
    return recipe.exists() and recipe.read_text() == RECIPE


def set_up() -> None:
    """Fetch and unpack, unless that was done. Raises Missing where it cannot be, CalledProcessError where it fails."""
    with _alone():
        if is_set_up():
            return
        for program in ("apt-get", "dpkg-deb", "tar", "unshare", "chroot"):
            if shutil.which(program) is None:
                raise Missing(f"Debian's {program}")
        for name in ("apt", "system"):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
        archives = _download(FOLDER / "apt")
        _unpack(archives)
        shutil.rmtree(FOLDER / "apt")
        (SYSTEM / "recipe").write_text(RECIPE)


def swift(*command: str) -> str:
    """Output of `swift COMMAND` on the package. Raises CalledProcessError, with what the compiler said as a note."""
    program, *options = command
    return _inside(
        f"/usr/libexec/swift/bin/swift-{program}",
        *("--package-path", "/sdk_stubs/swift", "--scratch-path", "/build", "-Xswiftc", "-warnings-as-errors"),
        *options,
    )


def runner() -> list[str]:
    """The command that decides for the devices of a case file (sdk_stubs/README.md); built when the sources changed."""
    swift("build", "--configuration", "release", "--product", "aerogram-runner")
    libraries = [SYSTEM / "usr/lib/x86_64-linux-gnu", SYSTEM / "usr/libexec/swift/lib/swift/linux"]
    # The system's own loader brings its own C library, so that the program needs no namespace.
    loader = [str(SYSTEM / "lib64/ld-linux-x86-64.so.2"), "--library-path", ":".join(map(str, libraries))]
    return [*loader, str(SYSTEM / "build/release/aerogram-runner")]


def _inside(*command: str) -> str:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    namespace = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *as_root]
    with _alone():
        done = subprocess.run(
            [*namespace, "sh", "-c", ENTER, "sh", str(SYSTEM), str(STUBS), *command],
            env=VARIABLES, capture_output=True, text=True, check=False, timeout=1_200,
        )  # fmt: skip
    if done.returncode != 0:
        error = subprocess.CalledProcessError(done.returncode, list(command))
        error.add_note(done.stdout[-8_000:] + done.stderr[-8_000:])
        raise error
    return done.stdout + done.stderr


def _download(folder: Path) -> list[Path]:
    """The packages and all that they depend on, whatever this machine has installed."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {RELEASE} main\n")
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Retries": 5,
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the folder is ours alone
    }
    apt = ["apt-get", "--quiet", *(f"--option={name}={value}" for name, value in options.items())]
    for command in (["update"], ["install", "--yes", "--download-only", *PACKAGES]):
        subprocess.run([*apt, *command], check=True, capture_output=True)
    return sorted((folder / "archives").glob("*.deb"))


def _mirror() -> str:
    """Where this machine gets Debian from."""
    told = platform.freedesktop_os_release()
    if told.get("ID") != "debian" or platform.machine() != "x86_64" or not KEYRING.exists():
        raise Missing("Debian on x86-64, with its archive's keys")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    for line in targets.stdout.splitlines():
        release, component, address = line.split(" ", 2)
        if (release, component) == (told.get("VERSION_CODENAME"), "main"):
            return address
    raise Missing("Debian's main archive among the sources of apt")


def _unpack(archives: list[Path]) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        (SYSTEM / "usr" / name).mkdir(parents=True)
        (SYSTEM / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "tmp", "build", "sdk_stubs"):
        (SYSTEM / name).mkdir()
    (SYSTEM / "dev/null").touch()
    # Packages bring a folder where the merged /usr has a link.
    tar = ["tar", "-x", "-C", str(SYSTEM), "--no-same-owner", "--keep-directory-symlink"]
    tar += [f"--exclude={pattern}" for pattern in LEFT_OUT]
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as packed:
            subprocess.run(tar, stdin=packed.stdout, check=True)
        if packed.returncode != 0:
            raise subprocess.CalledProcessError(packed.returncode, ["dpkg-deb", str(archive)])


@contextmanager
def _alone() -> Iterator[None]:
    """Two processes of one test run must not fetch or build at the same time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    set_up()
    sys.stdout.write(" ".join(runner()) + "\n")
