#!/usr/bin/env python3
"""Compile the Kotlin library with its runners, without Gradle: what the tests run, and what CI holds to the vectors.

    python -m sdk_stubs.kotlin.build        prints the class path of what it made

The compiler comes from the npm registry, by npm's own client, pinned by its hash; it needs Java 17. Compiler and jars
are kept below `var/kotlin`, so that nothing is compiled twice.
"""

import fcntl
import shutil
import subprocess
import sys
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256, sha512
from pathlib import Path

COMPILER = "kotlin-compiler@2.4.20"
COMPILER_SHA512 = "IF5IVM7LpPhA/ntHQQpaVt1yxpaaQovtEVYLyqWMuaLr0XelLPPm7/sM6HLhtcRjjjoSsK7I7lP2kzYJkMy73w=="
MAIN = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
OPTIONS = ("-no-reflect", "-Werror", "-jvm-target", "11", "-module-name", "aerogram")
SOURCES = Path(__file__).parent / "src"
KEPT = Path(__file__).parents[2] / "var" / "kotlin"


class ToolMissing(Exception):
    """A program that this needs is not on the machine; its name is the message."""


def runner(main_class: str) -> list[str]:
    """The command of one of the runners, compiled first if need be. Raises ToolMissing."""
    return [tool("java"), "-Xshare:auto", "-cp", class_path(), f"dev.aerogram.sdk.runner.{main_class}"]


def class_path() -> str:
    """Of the library and its runners as they are now. Raises ToolMissing."""
    java = tool("java")
    with _alone():
        libraries = _compiler()
        jar = KEPT / f"aerogram-{_sources_digest()}.jar"
        if not jar.exists():
            _compile(java, libraries, jar)
    return f"{jar}:{libraries / 'kotlin-stdlib.jar'}"


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(name)
    return path


@contextmanager
def _alone() -> Iterator[None]:
    """Tests run in several processes; the first one compiles, the others wait for it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compiler() -> Path:
    """The folder of its jars, fetched if it is not there."""
    folder = KEPT / COMPILER.replace("@", "-")
    if not folder.exists():
        archive, unpacked = _fetched(), folder.with_suffix(".part")
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content and member.name.startswith("package/lib/") and member.name.endswith(".jar"):
                    (unpacked / Path(member.name).name).write_bytes(content.read())
        unpacked.rename(folder)
        archive.unlink()
    return folder


def _fetched() -> Path:
    command = [tool("npm"), "pack", "--silent", "--pack-destination", str(KEPT), COMPILER]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=KEPT)
    archive = KEPT / done.stdout.split()[-1]
    found = b64encode(sha512(archive.read_bytes()).digest()).decode()
    if found != COMPILER_SHA512:
        raise ValueError(f"{COMPILER}: expected sha512 {COMPILER_SHA512}, got {found}")
    return archive


def _sources_digest() -> str:
    digest = sha256(f"{COMPILER} {OPTIONS}".encode())
    for path in sorted(SOURCES.rglob("*.kt")):
        digest.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _compile(java: str, libraries: Path, jar: Path) -> None:
    """Named only once it is whole. What the compiler says goes to this process' standard error."""
    part = jar.with_name(f"part-{jar.name}")
    options = ["-no-stdlib", "-cp", str(libraries / "kotlin-stdlib.jar"), *OPTIONS]
    command = [java, "-cp", f"{libraries}/*", MAIN, *options, "-d", str(part), str(SOURCES)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"kotlin: expected sources that compile without warnings, got\n{done.stderr}")
    for old in KEPT.glob("aerogram-*.jar"):
        old.unlink()
    part.rename(jar)


if __name__ == "__main__":
    sys.stdout.write(class_path() + "\n")
