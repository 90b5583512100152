import CZlib
import XCTest

@testable import Aerogram

final class WeightdiffTests: XCTestCase {
    func testPatchesOfTheVectors() throws {
        let members = try Vectors.members("patches")
        let base = try members.base64("base")
        for each in try members.cases("applied") {
            let (name, target) = (try each.text("name"), try each.base64("target"))
            XCTAssertEqual(try made(each, from: base), target, name)
        }
        for each in try members.cases("refused") {
            let name = try each.text("name")
            XCTAssertThrowsError(try made(each, from: base), name) { XCTAssert($0 is PatchError, "\($0)") }
        }
    }

    func testEachMistakeHasItsError() throws {
        let members = try Vectors.members("patches")
        let base = try members.base64("base")
        let literal = try XCTUnwrap(try members.cases("applied").dropFirst().first)
        let (patch, sha256) = (try literal.base64("patch"), try literal.text("target_sha256"))
        let short = patch.dropLast()
        let mistakes: [(patch: Data, base: Data, length: Int, error: PatchError)] = [
            (patch, base + Data([0]), 3, .anotherBase),
            (patch, base, 4, .anotherResult),
            (short, base, 3, .invalid("expected \(patch.count) bytes, got \(short.count)")),
        ]
        for (patch, base, length, error) in mistakes {
            XCTAssertThrowsError(try Weightdiff.apply(patch, to: base, sha256: sha256, length: length) { _ in }) {
                XCTAssertEqual($0 as? PatchError, error)
            }
        }
    }

    func testPiecesOfAThirdOfAMegabyte() throws {
        let base = Data((0..<300_000).map { (index: Int) -> UInt8 in UInt8(truncatingIfNeeded: index / 3) })
        let coded = (0..<300_000).map { (index: Int) -> UInt8 in UInt8(index % 7) }
        let target = Data(zip(base, coded).map { (before: UInt8, coded: UInt8) -> UInt8 in
            let half = coded >> 1
            return before &+ (coded.isMultiple(of: 2) ? half : ~half)
        })
        let control: [UInt8] = [2, 0xe0, 0xa7, 0x12, 0]
        let patch = packed(base, target, segments: 1, streams: [0: control, 2: coded])
        var sizes: [Int] = [], found = Data()
        try Weightdiff.apply(patch, to: base, sha256: hexadecimal(SHA256.hash(target)), length: target.count) { piece in
            sizes.append(piece.count)
            found += piece
        }
        XCTAssertEqual(found, target)
        XCTAssertEqual(sizes, [65536, 65536, 65536, 65536, 37856])
    }

    func testGapsOf255HaveNoValue() throws {
        let gaps: [UInt8] = [255, 2, 255, 255, 1], values: [UInt8] = [6, 10]
        var target = Data(repeating: 0, count: 770)
        (target[257], target[769]) = (3, 5)
        let control: [UInt8] = [2, 0x82, 0x06, 0]
        let base = Data(count: target.count)
        let patch = packed(base, target, segments: 1, streams: [0: control, 2: values, 9: gaps])
        let sha256 = hexadecimal(SHA256.hash(target))
        var found = Data()
        try Weightdiff.apply(patch, to: base, sha256: sha256, length: target.count) { found += $0 }
        XCTAssertEqual(found, target)
    }

    func testADamagedPatchNeverMakesAnotherFile() throws {
        let members = try Vectors.members("patches")
        let base = try members.base64("base")
        for each in try members.cases("applied") {
            let (patch, target) = (try each.base64("patch"), try each.base64("target"))
            let sha256 = try each.text("target_sha256")
            for index in patch.indices {
                var (damaged, found) = (patch, Data())
                damaged[index] ^= 1 << UInt8(index % 8)
                do {
                    try Weightdiff.apply(damaged, to: base, sha256: sha256, length: target.count) { found += $0 }
                    XCTAssertEqual(found, target)
                } catch { XCTAssert(error is PatchError, "\(error)") }
                XCTAssertLessThanOrEqual(found.count, target.count)
            }
        }
    }

    private func made(_ each: Members, from base: Data) throws -> Data {
        var found = Data()
        try Weightdiff.apply(
            try each.base64("patch"), to: base, sha256: try each.text("target_sha256"),
            length: try each.integer("target_length")
        ) { found += $0 }
        return found
    }

    private func packed(_ base: Data, _ target: Data, segments: Int, streams: [Int: [UInt8]]) -> Data {
        var deflatedStreams: [[UInt8]] = []
        for index in 0..<WeightdiffHeader.streams { deflatedStreams.append(streams[index].map(deflated) ?? []) }
        var patch = Data("AGWD".utf8)
        patch += [1, 0, 0, 0]
        patch += SHA256.hash(base)
        patch += SHA256.hash(target)
        var integers: [Int] = [base.count, target.count, segments]
        integers += deflatedStreams.map(\.count)
        for integer in integers { withUnsafeBytes(of: UInt32(integer).littleEndian) { patch += $0 } }
        for stream in deflatedStreams { patch += stream }
        return patch
    }

    /// zlib's two bytes of header and four of checksum are not part of the raw stream.
    private func deflated(_ bytes: [UInt8]) -> [UInt8] {
        var length = compressBound(UInt(bytes.count))
        var buffer = [UInt8](repeating: 0, count: Int(length))
        XCTAssertEqual(compress(&buffer, &length, bytes, UInt(bytes.count)), Z_OK)
        return Array(buffer.prefix(Int(length)).dropFirst(2).dropLast(4))
    }
}

extension Members {
    fileprivate func base64(_ name: JSON.Name) throws -> Data {
        try XCTUnwrap(Data(base64Encoded: try text(name)))
    }
}
