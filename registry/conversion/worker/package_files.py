"""Core ML packages as folders of files, without coremltools, which takes longer to import than they to copy."""

import shutil
from pathlib import Path


def copy_package(source: Path, target: Path) -> None:
    """`target`, a new folder, holds the same files with modes that do not depend on umask."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    normalise_modes(target)


def normalise_modes(path: Path) -> None:
    path.chmod(0o755)
    for member in path.rglob("*"):
        member.chmod(0o755 if member.is_dir() else 0o644)
