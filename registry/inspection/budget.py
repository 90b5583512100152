"""How much work one file may cause, whatever it says of itself."""

from registry.inspection.errors import InspectionError


class Budget:
    """So many parts may be read of a file, all lists and levels together.

    Limits of each list alone do not bound the work: in a flatbuffer any number of tables may name the same list.
    """

    def __init__(self, parts: int, code: str) -> None:
        self.parts = parts
        self.left = parts
        self.code = code

    def spend(self, parts: int = 1) -> int:
        """Returns `parts`. Raises InspectionError when they are more than what is left."""
        self.left -= parts
        if self.left < 0:
            raise InspectionError(self.code, f"at most {self.parts} parts in one file", "more")
        return parts
