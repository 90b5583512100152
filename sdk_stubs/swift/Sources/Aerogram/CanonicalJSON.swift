import Foundation

/// OLPC canonical JSON, the bytes a signature is made over: no spaces, members in the order of their code points,
/// nothing escaped but quote and backslash.
package enum CanonicalJSON {
    /// The widest integer that every JSON parser keeps: 2^53 - 1.
    package static let largestInteger = 1 << 53 - 1

    /// Throws DocumentError for what is never signed: fractions, exponents and integers beyond `largestInteger`.
    package static func encode(_ value: JSON) throws -> Data {
        var bytes: [UInt8] = []
        try append(value, to: &bytes)
        return Data(bytes)
    }

    private static func append(_ value: JSON, to bytes: inout [UInt8]) throws {
        switch value {
        case .null: bytes += "null".utf8
        case .bool(let flag): bytes += (flag ? "true" : "false").utf8
        case .integer(let integer):
            guard (-largestInteger...largestInteger).contains(integer) else { throw refusal("\(integer)") }
            bytes += "\(integer)".utf8
        case .number(let number): throw refusal("\(number)")
        case .text(let text): append(text, to: &bytes)
        case .list(let items):
            try append(items, between: "[]", to: &bytes) { item, bytes in try append(item, to: &bytes) }
        case .object(let members):
            try append(members.sorted { $0.key < $1.key }, between: "{}", to: &bytes) { member, bytes in
                append(member.key.text, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                try append(member.value, to: &bytes)
            }
        }
    }

    private static func append<Item>(
        _ items: [Item], between brackets: String, to bytes: inout [UInt8],
        _ appendItem: (Item, inout [UInt8]) throws -> Void
    ) throws {
        bytes += brackets.utf8.prefix(1)
        for (index, item) in items.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            try appendItem(item, &bytes)
        }
        bytes += brackets.utf8.suffix(1)
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { bytes.append(UInt8(ascii: "\\")) }
            bytes.append(byte)
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static func refusal(_ got: String) -> DocumentError {
        DocumentError(at: "document", expected: "integers of at most \(largestInteger)", got: got)
    }
}
