"""Applying patches in tests, with the bounds watched."""

import hashlib
import io


class BoundedResult(io.BytesIO):
    """Fails a test as soon as more is written than the target has."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def write(self, data):
        assert self.tell() + len(data) <= self.limit, "wrote past the length of the result"
        return super().write(data)


def applied(patch, base, target, apply_patch):
    result = BoundedResult(len(target))
    apply_patch(
        io.BytesIO(patch),
        io.BytesIO(base),
        result,
        sha256=hashlib.sha256(target).hexdigest(),
        length=len(target),
    )
    return result.getvalue()
