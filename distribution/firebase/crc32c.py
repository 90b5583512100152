"""CRC-32C (Castagnoli), which clients of the storage API compare after an upload. Pure.

RFC 3720, appendix B.4: reflected, polynomial 0x1EDC6F41, initial and final value all ones. A block is cut into lanes
of equal length that go through the table together; their registers are joined by the linear map "so many zero bytes".
"""

import base64

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_LANES = 4096
_LANE_BYTES = 256
_BLOCK_BYTES = _LANES * _LANE_BYTES
Words = NDArray[np.uint32]


class Crc32c:
    """`update` as often as there are bytes; `value` is the checksum of all of them."""

    def __init__(self) -> None:
        self._register = 0xFFFFFFFF

    def update(self, data: bytes) -> None:
        end = len(data) - len(data) % _BLOCK_BYTES
        for start in range(0, end, _BLOCK_BYTES):
            self._block(data[start : start + _BLOCK_BYTES])
        register = self._register
        for byte in data[end:]:
            register = int(_TABLE[(register ^ byte) & 0xFF]) ^ (register >> 8)
        self._register = register

    def _block(self, data: bytes) -> None:
        columns = np.frombuffer(data, np.uint8).reshape(_LANES, _LANE_BYTES).T.astype(np.uint32)
        registers = np.zeros(_LANES, np.uint32)
        registers[0] = self._register
        for column in columns:
            registers = _TABLE[(registers ^ column) & 0xFF] ^ (registers >> 8)
        for shift in _SHIFTS:
            registers = _shifted(registers[0::2], shift) ^ registers[1::2]
        self._register = int(registers[0])

    @property
    def value(self) -> int:
        return self._register ^ 0xFFFFFFFF

    @property
    def base64(self) -> str:
        """Big-endian, in base64: how the storage API writes it."""
        return base64.b64encode(self.value.to_bytes(4, "big")).decode()


def _table() -> Words:
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = ((table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))).astype(np.uint32)
    return table


def _shifted(registers: Words, shift: Words) -> Words:
    """The registers after the zero bytes that `shift` stands for: its row k is the image of bit k."""
    result = np.zeros_like(registers)
    for bit, image in enumerate(shift):
        result ^= np.where((registers >> bit) & 1, image, np.uint32(0)).astype(np.uint32)
    return result


def _shifts() -> list[Words]:
    """The maps for one lane, two lanes, four … of zero bytes: one for each round of joining."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(_LANE_BYTES):
        bits = _TABLE[bits & 0xFF] ^ (bits >> 8)
    shifts = [bits]
    while 2 ** len(shifts) < _LANES:
        shifts.append(_shifted(shifts[-1], shifts[-1]))
    return shifts


_TABLE = _table()
_SHIFTS = _shifts()
