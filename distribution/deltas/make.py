"""`python -m distribution.deltas.make BASE TARGET PATCH MEMORY_MIB`: one patch, in a process that may die of it.

Exits 0 when PATCH stands there and was applied with the right result. Says why not on stderr otherwise.
"""

import hashlib
import resource
import sys
import tempfile
from pathlib import Path

from distribution.deltas.decoder import apply_patch
from distribution.deltas.encoder import make_patch


def main(base: Path, target: Path, patch: Path, memory_mib: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    wanted = target.read_bytes()
    patch.write_bytes(make_patch(base.read_bytes(), wanted))
    digest = hashlib.sha256(wanted).hexdigest()
    with patch.open("rb") as changes, base.open("rb") as old, tempfile.TemporaryFile(dir=patch.parent) as result:
        # Raises unless the result's digest is the target's: what every device will do was done once before.
        apply_patch(changes, old, result, sha256=digest, length=len(wanted))


if __name__ == "__main__":
    old, new, made, limit = sys.argv[1:]
    main(Path(old), Path(new), Path(made), int(limit))
