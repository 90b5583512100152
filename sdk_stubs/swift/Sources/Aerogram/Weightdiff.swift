import Foundation

/// The patch was not applied; what was written is not the target, and the full file is to be fetched.
public enum PatchError: Error, Equatable {
    /// Not a weightdiff-1 patch, damaged, or beyond its limits.
    case invalid(String)
    /// The patch is for another base.
    case anotherBase
    /// The patch makes another file than the one wanted.
    case anotherResult
}

/// Applies patches of the format weightdiff-1 (docs/weightdiff.md).
public enum Weightdiff {
    /// Hands the file of `length` bytes and hexadecimal digest `sha256` to `write`, in pieces of at most 64 KiB and
    /// never more than `length` bytes. Only if nothing is thrown is what was written the file.
    ///
    /// Besides `patch` and `base`, which may be mapped, memory stays below 8 MiB. Throws PatchError, and what `write`
    /// throws.
    public static func apply(
        _ patch: Data, to base: Data, sha256: String, length: Int, write: ([UInt8]) throws -> Void
    ) throws {
        try patch.withUnsafeBytes { patch in
            try base.withUnsafeBytes { base in
                try apply(
                    patch.bindMemory(to: UInt8.self), to: base.bindMemory(to: UInt8.self), sha256: sha256,
                    length: length, write: write
                )
            }
        }
    }

    private static func apply(
        _ patch: UnsafeBufferPointer<UInt8>, to base: UnsafeBufferPointer<UInt8>, sha256: String, length: Int,
        write: ([UInt8]) throws -> Void
    ) throws {
        let header = try WeightdiffHeader(patch)
        guard hexadecimal(header.targetSHA256) == sha256, header.targetLength == length else {
            throw PatchError.anotherResult
        }
        guard base.count == header.baseLength, SHA256.hash(base) == header.baseSHA256 else {
            throw PatchError.anotherBase
        }
        var digest = SHA256()
        let maker = WeightdiffMaker(patch, base, header)
        try maker.make { piece in
            digest.update(piece)
            try write(piece)
        }
        guard digest.finalize() == header.targetSHA256 else { throw PatchError.anotherResult }
    }
}

/// The 148 bytes at the beginning; integers are little-endian.
struct WeightdiffHeader {
    static let size = 84 + 4 * streams
    static let streams = 16
    private static let magic: [UInt8] = Array("AGWD".utf8) + [1, 0, 0, 0]
    /// Of base, target and patch: lengths fit a signed 32-bit integer in every language.
    private static let mostBytes = Int(Int32.max)
    private static let mostSegments = 1 << 18

    let baseSHA256, targetSHA256: [UInt8]
    let baseLength, targetLength, segments: Int
    /// In bytes as deflated, in the order in which they follow the header.
    let streamLengths: [Int]

    init(_ patch: UnsafeBufferPointer<UInt8>) throws {
        guard patch.count >= Self.size, patch.starts(with: Self.magic) else {
            throw PatchError.invalid("expected a header of \(Self.size) bytes, got \(patch.count) bytes of another kind")
        }
        func integer(_ offset: Int) -> Int { patch[offset..<offset + 4].reversed().reduce(0) { $0 << 8 | Int($1) } }
        baseSHA256 = Array(patch[8..<40])
        targetSHA256 = Array(patch[40..<72])
        (baseLength, targetLength, segments) = (integer(72), integer(76), integer(80))
        streamLengths = (0..<Self.streams).map { integer(84 + 4 * $0) }
        guard max(baseLength, targetLength, patch.count) <= Self.mostBytes,
            segments <= min(Self.mostSegments, targetLength)
        else {
            throw PatchError.invalid("expected sizes within the limits, got \(targetLength) in \(segments) segments")
        }
        let whole = streamLengths.reduce(Self.size, +)
        guard whole == patch.count else { throw PatchError.invalid("expected \(whole) bytes, got \(patch.count)") }
    }
}

/// Follows the control stream and makes the target piece by piece.
private struct WeightdiffMaker {
    private static let piece = 1 << 16
    private static let controlStream = 0, literalStream = 1, firstPlane = 2, firstGaps = 9

    private let base: UnsafeBufferPointer<UInt8>
    private let header: WeightdiffHeader
    private let streams: [DeflatedStream]
    /// One of width 1, two of width 2, four of width 4; lowest bytes first.
    private let planes: [ByteSource]

    init(_ patch: UnsafeBufferPointer<UInt8>, _ base: UnsafeBufferPointer<UInt8>, _ header: WeightdiffHeader) {
        self.base = base
        self.header = header
        var start = WeightdiffHeader.size
        let streams = header.streamLengths.map { length in
            defer { start += length }
            return DeflatedStream(UnsafeBufferPointer(rebasing: patch[start..<start + length]))
        }
        self.streams = streams
        planes = (Self.firstPlane..<Self.firstGaps).map { index in
            let (values, gaps) = (streams[index], index + Self.firstGaps - Self.firstPlane)
            return header.streamLengths[gaps] == 0 ? values : GapPlane(values: values, gaps: streams[gaps])
        }
    }

    func make(_ write: ([UInt8]) throws -> Void) throws {
        var made = 0, cursor = 0
        for _ in 0..<header.segments {
            let (operation, length) = try segment(after: made)
            made += length
            if let width = operation.widthOfBase {
                let step = try number()
                cursor += step >> 1 ^ -(step & 1)
                guard cursor >= 0, cursor <= base.count - length else {
                    throw PatchError.invalid("expected \(length) bytes inside the base, got them from \(cursor)")
                }
                try changed(UnsafeBufferPointer(rebasing: base[cursor..<cursor + length]), width: width, write)
                cursor += length
            } else {
                try pieces(length) { try write(streams[Self.literalStream].read($1)) }
            }
        }
        guard made == header.targetLength else {
            throw PatchError.invalid("expected \(header.targetLength) bytes in all, got \(made)")
        }
        for source in planes + streams { try source.finish() }
    }

    private enum Operation: UInt8 {
        case add, copy, diff1, diff2, diff4

        /// Bytes of an element whose difference follows; 0: none does. Nil: the base is not read.
        var widthOfBase: Int? {
            switch self {
            case .add: return nil
            case .copy: return 0
            case .diff1: return 1
            case .diff2: return 2
            case .diff4: return 4
            }
        }
    }

    private func segment(after made: Int) throws -> (Operation, length: Int) {
        let (code, length) = (try streams[Self.controlStream].read(1)[0], try number())
        guard let operation = Operation(rawValue: code), length > 0, length <= header.targetLength - made,
            length.isMultiple(of: max(operation.widthOfBase ?? 1, 1))
        else {
            throw PatchError.invalid("expected a known segment within the result, got \(code) of \(length) bytes")
        }
        return (operation, length)
    }

    /// Up to five bytes of seven bits, lowest first.
    private func number() throws -> Int {
        var value = 0
        for shift in stride(from: 0, to: 35, by: 7) {
            let byte = try streams[Self.controlStream].read(1)[0]
            value |= Int(byte & 127) << shift
            if byte < 128 { return value }
        }
        throw PatchError.invalid("expected a number of at most 5 bytes, got a longer one")
    }

    private func pieces(_ length: Int, _ each: (_ start: Int, _ size: Int) throws -> Void) throws {
        for start in stride(from: 0, to: length, by: Self.piece) { try each(start, min(Self.piece, length - start)) }
    }

    private func changed(
        _ before: UnsafeBufferPointer<UInt8>, width: Int, _ write: ([UInt8]) throws -> Void
    ) throws {
        try pieces(before.count) { start, size in
            var piece = Array(before[start..<start + size])
            if width > 0 { try add(planes: planes[width - 1..<2 * width - 1], to: &piece) }
            try write(piece)
        }
    }

    /// Element by element, modulo 2^(8 width); the lowest bit of a difference is its sign.
    private func add(planes: ArraySlice<ByteSource>, to piece: inout [UInt8]) throws {
        let width = planes.count
        let bytes = try planes.map { try $0.read(piece.count / width) }
        for index in 0..<piece.count / width {
            var (before, coded): (UInt32, UInt32) = (0, 0)
            for place in (0..<width).reversed() {
                before = before << 8 | UInt32(piece[index * width + place])
                coded = coded << 8 | UInt32(bytes[place][index])
            }
            var after = before &+ (coded >> 1 ^ (0 &- (coded & 1)))
            for place in 0..<width {
                piece[index * width + place] = UInt8(truncatingIfNeeded: after)
                after >>= 8
            }
        }
    }
}
