"""Reading protocol buffers without their schema: fields by number, as far as inspection needs them."""

from collections.abc import Iterator, Mapping, Sequence

from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_PARTS = 100_000

Value = int | memoryview


def _damaged() -> InspectionError:
    return InspectionError("damaged_protobuf", "a protocol buffer", "bytes that are none")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 the continuation bit
            return value, position + index + 1
    raise _damaged()


class Message:
    """The bytes of one message, and what may still be read of the file that it is part of."""

    def __init__(self, data: memoryview, budget: Budget) -> None:
        self.data = data
        self.budget = budget

    def fields(self) -> Iterator[tuple[int, Value]]:
        """(field number, value): an int, or the bytes of a string, message or fixed-width number."""
        data, position = self.data, 0
        while position < len(data):
            self.budget.spend()
            key, position = _varint(data, position)
            kind = key & 7
            if kind == VARINT:
                value, position = _varint(data, position)
                yield key >> 3, value
                continue
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == LENGTH:
                length, position = _varint(data, position)
            if length is None or position + length > len(data):
                raise _damaged()
            yield key >> 3, data[position : position + length]
            position += length

    def messages(self, number: int) -> "Iterator[Message]":
        """The embedded messages (or strings) of one field."""
        for found, value in self.fields():
            if found == number:
                if isinstance(value, int):
                    raise _damaged()
                yield Message(value, self.budget)

    def text(self, number: int) -> str:
        """The last string of one field, as protocol buffers define it; empty when absent."""
        result = ""
        for value in self.messages(number):
            result = bytes(value.data).decode("utf-8", "replace")
        return result

    def integer(self, number: int) -> int:
        """The last signed 64-bit value of one field; 0 when absent."""
        result = 0
        for found, value in self.fields():
            if found == number and isinstance(value, int):
                result = value
        return signed(result)

    def numbers(self) -> Iterator[int]:
        """The bytes as a packed list of signed numbers."""
        position = 0
        while position < len(self.data):
            self.budget.spend()
            value, position = _varint(self.data, position)
            yield signed(value)

    def parts(self) -> "Parts":
        """All fields in one pass, for messages that are no long lists. Raises for more than MAX_PARTS."""
        found: dict[int, list[Value]] = {}
        for count, (number, value) in enumerate(self.fields()):
            if count >= MAX_PARTS:
                raise InspectionError("damaged_protobuf", f"at most {MAX_PARTS} parts in one message", "more")
            found.setdefault(number, []).append(value)
        return Parts(found, self.budget)


class Parts:
    """The fields of one message by number."""

    def __init__(self, found: Mapping[int, Sequence[Value]], budget: Budget) -> None:
        self.found = found
        self.budget = budget

    def __contains__(self, number: int) -> bool:
        return number in self.found

    def messages(self, number: int) -> list[Message]:
        values = self.found.get(number, ())
        if any(isinstance(value, int) for value in values):
            raise _damaged()
        return [Message(value, self.budget) for value in values if not isinstance(value, int)]

    def last(self, number: int) -> Message:
        """The last message of one field; an empty one when absent."""
        found = self.messages(number)
        return found[-1] if found else Message(memoryview(b""), self.budget)

    def texts(self, number: int) -> list[str]:
        return [bytes(value.data).decode("utf-8", "replace") for value in self.messages(number)]

    def text(self, number: int) -> str:
        return bytes(self.last(number).data).decode("utf-8", "replace")

    def integer(self, number: int) -> int:
        values = [value for value in self.found.get(number, ()) if isinstance(value, int)]
        return signed(values[-1]) if values else 0

    def integers(self, number: int) -> list[int]:
        """A repeated number, whether it was written packed or one by one."""
        result: list[int] = []
        for value in self.found.get(number, ()):
            result.extend([signed(value)] if isinstance(value, int) else Message(value, self.budget).numbers())
        return result


def signed(value: int) -> int:
    """A signed 64-bit number, as protocol buffers store it in an unsigned one."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
