"""How far a worker is, for whoever watches: a small file in its scratch folder, replaced whole."""

import json
from pathlib import Path

PROGRESS_FILE = "progress.json"


def tell(scratch: Path, step: str, percent: int) -> None:
    """`step` is what is being done, in a word or two; `percent` of this process's work is done, 0..100."""
    partial = scratch / f"{PROGRESS_FILE}.partial"
    partial.write_text(json.dumps({"step": step, "percent": max(0, min(100, percent))}), "utf-8")
    partial.rename(scratch / PROGRESS_FILE)
