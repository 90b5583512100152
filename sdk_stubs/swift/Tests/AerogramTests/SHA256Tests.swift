import XCTest

@testable import Aerogram

final class SHA256Tests: XCTestCase {
    /// FIPS 180-2, appendix B, and the empty message.
    func testPublishedDigests() {
        let digests = [
            "": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq":
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            String(repeating: "a", count: 1_000_000):
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ]
        for (message, digest) in digests { XCTAssertEqual(SHA256.hexDigest(message), digest) }
    }

    func testPiecesAreOneMessage() {
        let message = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
        for length in 0...message.count {
            var hash = SHA256()
            hash.update(message.prefix(length / 3))
            hash.update(message.prefix(length).dropFirst(length / 3))
            XCTAssertEqual(hash.finalize(), SHA256.hash(message.prefix(length)), "\(length) bytes")
        }
    }
}
