/// What a text of a catalog must look like; all are ASCII, so that every language agrees on them.
struct Form: Sendable {
    /// The pattern, for people.
    let pattern: String
    let holds: @Sendable (String) -> Bool

    static let any = Form(pattern: ".*") { _ in true }

    static let name = Form(pattern: "[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?") { text in
        let bytes = Array(text.utf8)
        guard (1...63).contains(bytes.count), let first = bytes.first, let last = bytes.last else { return false }
        return isLower(first) && isLower(last) && bytes.allSatisfy { isLower($0) || isOne(of: "._-", $0) }
    }

    static let salt = Form(pattern: #"[ !#-\[\]-~]{1,200}"#) { text in
        guard (1...200).contains(text.utf8.count) else { return false }
        return text.utf8.allSatisfy { (32...126).contains($0) && !isOne(of: "\"\\", $0) }
    }

    static let sha256 = Form(pattern: "[0-9a-f]{64}") { text in
        text.utf8.count == 64 && text.utf8.allSatisfy { isDigit($0) || (97...102).contains($0) }
    }

    static let path = Form(pattern: "(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*") { text in
        text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { part in
            guard let first = part.first, first != UInt8(ascii: ".") else { return false }
            return part.allSatisfy { isLetterOrDigit($0) || isOne(of: "._-", $0) }
        }
    }

    /// A positive integer of at most 16 digits, as the key of an object.
    static let version = Form(pattern: "[1-9][0-9]{0,15}") { text in
        (1...16).contains(text.utf8.count) && text.utf8.first != UInt8(ascii: "0") && text.utf8.allSatisfy(isDigit)
    }

    static let unit = Form(pattern: "[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}") { text in
        guard let first = text.utf8.first, isLetterOrDigit(first), text.utf8.count <= 128 else { return false }
        return text.utf8.allSatisfy { isLetterOrDigit($0) || isOne(of: "._:~-", $0) }
    }
}

func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
}

private func isLower(_ byte: UInt8) -> Bool {
    isDigit(byte) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
    isLower(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
}

private func isOne(of characters: String, _ byte: UInt8) -> Bool {
    characters.utf8.contains(byte)
}

extension String {
    /// The same code points. `==` also holds for texts that only look the same, as "é" in one code point and in two.
    func isExactly(_ other: String) -> Bool {
        utf8.elementsEqual(other.utf8)
    }
}
