import CZlib

/// Bytes that are asked for in exact amounts and arrive in others.
class ByteSource {
    fileprivate var ready: [UInt8] = []
    fileprivate var taken = 0

    /// Exactly `count` bytes, 64 KiB at most. Throws PatchError.
    func read(_ count: Int) throws -> [UInt8] {
        if ready.count - taken < count {
            ready.removeFirst(taken)
            taken = 0
            while ready.count < count { try more(count - ready.count) }
        }
        defer { taken += count }
        return Array(ready[taken..<taken + count])
    }

    /// Throws PatchError unless everything was read and nothing follows.
    func finish() throws {
        guard taken == ready.count else { throw PatchError.invalid("expected the end of a stream, got more") }
    }

    /// Appends at least one byte to `ready`, at most a few pieces.
    fileprivate func more(_ missing: Int) throws {
        throw PatchError.invalid("expected \(missing) bytes more, got the end of a stream")
    }
}

/// Raw DEFLATE, inflated only as far as it is read. The memory of `deflated` must outlive it.
final class DeflatedStream: ByteSource {
    private static let piece = 1 << 16

    private let deflated: UnsafeBufferPointer<UInt8>
    private var consumed = 0
    private var ended: Bool
    /// zlib keeps the address.
    private let stream: UnsafeMutablePointer<z_stream>?

    /// No bytes at all are an empty stream.
    init(_ deflated: UnsafeBufferPointer<UInt8>) {
        self.deflated = deflated
        ended = deflated.isEmpty
        guard !ended else {
            stream = nil
            return
        }
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // Negative window bits: no zlib header.
        let done = inflateInit2_(stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        self.stream = done == Z_OK ? stream : nil
        if done != Z_OK { stream.deallocate() }
    }

    deinit {
        guard let stream else { return }
        inflateEnd(stream)
        stream.deallocate()
    }

    /// At least one byte and at most `most`.
    func some(_ most: Int) throws -> [UInt8] {
        try read(max(1, min(most, ready.count - taken)))
    }

    override func finish() throws {
        try super.finish()
        guard try inflated(1).isEmpty, consumed == deflated.count else {
            throw PatchError.invalid("expected nothing after the end of a stream, got more")
        }
    }

    fileprivate override func more(_ missing: Int) throws {
        let bytes = try inflated(Self.piece)
        if bytes.isEmpty { try super.more(missing) }
        ready += bytes
    }

    /// At most `most` bytes; none at the end of the stream, and only there.
    private func inflated(_ most: Int) throws -> [UInt8] {
        guard !ended else { return [] }
        guard let stream else { throw PatchError.invalid("expected memory for zlib, got none") }
        return try [UInt8](unsafeUninitializedCapacity: most) { made, count in
            while count == 0, !ended {
                stream.pointee.next_in = UnsafeMutablePointer(mutating: deflated.baseAddress.map { $0 + consumed })
                stream.pointee.avail_in = UInt32(deflated.count - consumed)
                stream.pointee.next_out = made.baseAddress
                stream.pointee.avail_out = UInt32(most)
                let done = inflate(stream, Z_NO_FLUSH)
                consumed = deflated.count - Int(stream.pointee.avail_in)
                count = most - Int(stream.pointee.avail_out)
                ended = done == Z_STREAM_END
                // Z_BUF_ERROR: nothing is left to go on with.
                guard ended || done == Z_OK else { throw PatchError.invalid("expected deflated bytes, got others") }
            }
        }
    }
}

/// A plane that is mostly zeros: how many come before each value, and the values. A gap of 255 stands for 255 zeros
/// without a value after them.
final class GapPlane: ByteSource {
    private static let gapsAtOnce = 1 << 12

    private let values, gaps: DeflatedStream

    init(values: DeflatedStream, gaps: DeflatedStream) {
        self.values = values
        self.gaps = gaps
    }

    fileprivate override func more(_ missing: Int) throws {
        let some = try gaps.some(min(missing, Self.gapsAtOnce))
        var values = try values.read(some.count { $0 < 255 })[...]
        for gap in some {
            ready.append(contentsOf: repeatElement(0, count: Int(gap)))
            if gap < 255, let value = values.popFirst() { ready.append(value) }
        }
    }
}

extension Sequence {
    fileprivate func count(_ holds: (Element) -> Bool) -> Int {
        reduce(0) { holds($1) ? $0 + 1 : $0 }
    }
}
