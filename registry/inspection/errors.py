"""The one error of inspection."""


class InspectionError(ValueError):
    """A file that is not what it is said to be. `code` is a word for machines; `expected` and `got` are for people."""

    def __init__(self, code: str, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}; got {got}")
        self.code = code
        self.expected = expected
        self.got = got
