"""The sound features of micro_speech, in NumPy: what its audio_preprocessor computes with operators LiteRT has not.

Window, weights, tables and parameters are read from the preprocessor's own file; the stages are those its operators
name: window, scaling, Fourier transform, energies, mel filters, noise subtraction, gain control by it, logarithm.
Fixed-point stages keep their integers; the transform itself is computed in floating point and rounded.
"""

import math
import wave
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

FRAMES, STRIDE, WINDOW, FFT = 49, 320, 480, 512
TYPES = {schema.TensorType.INT16: "<i2", schema.TensorType.INT32: "<i4"}


class Preprocessor:
    def __init__(self, path: Path) -> None:
        model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
        graph = model.subgraphs[0]
        self.constants, self.inputs, self.options = {}, {}, {}
        for operator in graph.operators:
            name = model.operatorCodes[operator.opcodeIndex].customCode
            if name is None:
                continue
            self.options[name.decode()] = flexbuffers.Loads(bytes(operator.customOptions))
            self.inputs[name.decode()] = [self._constant(model, graph.tensors[index]) for index in operator.inputs]
        self.noise = np.zeros(40, np.int64)

    @staticmethod
    def _constant(model, tensor) -> np.ndarray | None:
        data = model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        return np.frombuffer(bytes(data), TYPES[tensor.type]).astype(np.int64)

    def features(self, path: Path) -> np.ndarray:
        """(1960,) int8 of one second at 16 kHz."""
        with wave.open(str(path)) as sound:
            samples = np.frombuffer(sound.readframes(16_000), "<i2").astype(np.int64)
        self.noise[:] = 0
        frames = [self._frame(samples[start : start + WINDOW]) for start in range(0, FRAMES * STRIDE, STRIDE)]
        return np.stack(frames).reshape(-1).astype(np.int8)

    def _frame(self, samples: np.ndarray) -> np.ndarray:
        windowed = (samples * self.inputs["SignalWindow"][1]) >> self.options["SignalWindow"]["shift"]
        shift = 15 - int(np.abs(windowed).max()).bit_length()
        spectrum = np.fft.rfft(windowed << shift, FFT) / FFT
        energies = np.round(spectrum.real) ** 2 + np.round(spectrum.imag) ** 2
        bounds = self.options["SignalEnergy"]
        energies[: bounds["start_index"]] = energies[bounds["end_index"] :] = 0
        signal = np.array([math.isqrt(int(value)) >> shift for value in self._filtered(energies)])
        signal = self._without_noise(signal)
        signal = np.array([self._gained(int(s), int(n)) for s, n in zip(signal, self.noise, strict=True)])
        options = self.options["SignalFilterBankLog"]
        louder = np.maximum(signal << options["input_correction_bits"], 1)
        levels = np.round(np.log(louder) * options["output_scale"])
        return np.clip((levels * 256 + 333) // 666 - 128, -128, 127)

    def _filtered(self, energies: np.ndarray) -> list[float]:
        """Each band's rising slope, and what of the band before falls into it."""
        _, rising, falling, first, start, width = self.inputs["SignalFilterBank"]
        outputs, left = [], 0.0
        for at, weight, count in zip(first, start, width, strict=True):
            band = energies[at : at + count]
            outputs.append(left + float(np.dot(rising[weight : weight + count], band)))
            left = float(np.dot(falling[weight : weight + count], band))
        return outputs[1:]

    def _without_noise(self, signal: np.ndarray) -> np.ndarray:
        o = self.options["SignalFilterBankSpectralSubtraction"]
        even = np.arange(len(signal)) % 2 == 0
        new = np.where(even, o["smoothing"], o["alternate_smoothing"])
        old = np.where(even, o["one_minus_smoothing"], o["alternate_one_minus_smoothing"])
        scaled = signal << o["smoothing_bits"]
        self.noise = (scaled * new + self.noise * old) >> o["spectral_subtraction_bits"]
        rest = (scaled - np.minimum(self.noise, scaled)) >> o["smoothing_bits"]
        return np.maximum(rest, (signal * o["min_signal_remaining"]) >> o["spectral_subtraction_bits"])

    def _gained(self, signal: int, noise: int) -> int:
        ratio = (signal * self._gain(noise)) >> self.options["SignalPCAN"]["snr_shift"]
        return (ratio * ratio) >> 20 if ratio < 2 << 12 else (ratio >> 6) - (1 << 6)

    def _gain(self, noise: int) -> int:
        """A table of parabolas, one for each power of two."""
        table = self.inputs["SignalPCAN"][2]
        if noise <= 2:
            return int(table[noise])
        power = noise.bit_length()
        at = 4 * power - 6
        part = (noise << 11 - power if power < 11 else noise >> power - 11) & 0x3FF
        bent = (((int(table[at + 2]) * part) >> 5) + (int(table[at + 1]) << 5)) * part
        return ((bent + (1 << 14)) >> 15) + int(table[at])
