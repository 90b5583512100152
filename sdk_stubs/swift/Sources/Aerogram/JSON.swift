import Foundation

/// A JSON document as signed documents need it: integers are told from other numbers and from booleans, and texts are
/// kept to the code point.
package enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    /// A number with a fraction or an exponent, or beyond 64 bits. Nothing that is signed has one.
    case number(Double)
    case text(String)
    case list([JSON])
    case object([Name: JSON])

    /// A member's name. Names are equal if their code points are.
    package struct Name: Hashable, Comparable, Sendable, ExpressibleByStringLiteral {
        package let text: String

        package init(_ text: String) { self.text = text }
        package init(stringLiteral text: String) { self.text = text }

        package static func == (left: Name, right: Name) -> Bool { left.text.isExactly(right.text) }
        /// By code points, which in UTF-8 is by bytes.
        package static func < (left: Name, right: Name) -> Bool {
            left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
        }
        package func hash(into hasher: inout Hasher) {
            for byte in text.utf8 { hasher.combine(byte) }
        }
    }
}

extension JSON {
    /// How deep lists and objects may stand inside one another.
    package static let deepest = 64

    /// Reads a whole document in UTF-8. Throws DocumentError also for names that occur twice in one object.
    package init(parsing data: Data) throws {
        guard String(bytes: data, encoding: .utf8) != nil else {
            throw DocumentError(at: "document", expected: "UTF-8", got: "other bytes")
        }
        self = try data.withUnsafeBytes { bytes in
            var parser = Parser(bytes: bytes.bindMemory(to: UInt8.self))
            return try parser.document()
        }
    }
}

/// RFC 8259 over bytes that are known to be UTF-8.
private struct Parser {
    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0

    mutating func document() throws -> JSON {
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw wrong("the end") }
        return value
    }

    private mutating func value(depth: Int) throws -> JSON {
        guard depth <= JSON.deepest else { throw wrong("at most \(JSON.deepest) levels") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try list(depth: depth)
        case UInt8(ascii: "\""): return .text(try text())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }

    private mutating func object(depth: Int) throws -> JSON {
        var members: [JSON.Name: JSON] = [:]
        try items(endingAt: UInt8(ascii: "}")) { parser in
            guard parser.next == UInt8(ascii: "\"") else { throw parser.wrong("a name") }
            let name = JSON.Name(try parser.text())
            parser.skipSpace()
            guard parser.take(UInt8(ascii: ":")) else { throw parser.wrong("a colon") }
            let value = try parser.value(depth: depth + 1)
            guard members.updateValue(value, forKey: name) == nil else { throw parser.wrong("\(name.text) once") }
        }
        return .object(members)
    }

    private mutating func list(depth: Int) throws -> JSON {
        var list: [JSON] = []
        try items(endingAt: UInt8(ascii: "]")) { parser in list.append(try parser.value(depth: depth + 1)) }
        return .list(list)
    }

    private mutating func items(endingAt end: UInt8, _ item: (inout Parser) throws -> Void) throws {
        position += 1
        skipSpace()
        if take(end) { return }
        repeat {
            skipSpace()
            try item(&self)
            skipSpace()
        } while take(UInt8(ascii: ","))
        guard take(end) else { throw wrong("a comma or the end") }
    }

    private mutating func word(_ word: String, _ value: JSON) throws -> JSON {
        guard bytes[position...].starts(with: word.utf8) else { throw wrong(word) }
        position += word.utf8.count
        return value
    }

    private mutating func number() throws -> JSON {
        let start = position
        _ = take(UInt8(ascii: "-"))
        let whole = digits()
        guard whole > 0, whole == 1 || bytes[position - whole] != UInt8(ascii: "0") else { throw wrong("a value") }
        var isInteger = true
        if take(UInt8(ascii: ".")) {
            isInteger = false
            guard digits() > 0 else { throw wrong("digits") }
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isInteger = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            guard digits() > 0 else { throw wrong("digits") }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let integer = Int(text) { return .integer(integer) }
        guard let number = Double(text) else { throw wrong("a number") }
        return .number(number)
    }

    private mutating func digits() -> Int {
        let start = position
        while let next, isDigit(next) { position += 1 }
        return position - start
    }

    private mutating func text() throws -> String {
        position += 1
        let start = position
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 32 { position += 1 }
        if take(UInt8(ascii: "\"")) { return String(decoding: bytes[start..<position - 1], as: UTF8.self) }
        var content = Array(bytes[start..<position])
        while let byte = next, byte >= 32 {
            position += 1
            if byte == UInt8(ascii: "\"") { return String(decoding: content, as: UTF8.self) }
            if byte == UInt8(ascii: "\\") { content.append(contentsOf: try escaped()) } else { content.append(byte) }
        }
        throw wrong("the end of a text")
    }

    private mutating func escaped() throws -> [UInt8] {
        guard let byte = next else { throw wrong("an escape") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "u"): return Array(String(Character(try codePoint())).utf8)
        default: throw wrong("an escape")
        }
    }

    /// Half of a pair alone is no code point, and no UTF-8 could express it.
    private mutating func codePoint() throws -> Unicode.Scalar {
        var value = try codeUnit()
        if (0xD800..<0xDC00).contains(value), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
            let low = try codeUnit()
            guard (0xDC00..<0xE000).contains(low) else { throw wrong("the second half of a pair") }
            value = 0x1_0000 + (value - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(value) else { throw wrong("a code point") }
        return scalar
    }

    private mutating func codeUnit() throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw wrong("four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = next, byte == 32 || byte == 10 || byte == 13 || byte == 9 { position += 1 }
    }

    private func wrong(_ expected: String) -> DocumentError {
        let got = position < bytes.count ? "byte \(bytes[position])" : "the end"
        return DocumentError(at: "document, byte \(position)", expected: expected, got: got)
    }
}
