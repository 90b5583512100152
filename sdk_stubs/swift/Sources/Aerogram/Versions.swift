/// A dotted version. Missing parts count as 0, and a part's digits end at its first other character:
/// "2.9" < "2.10", "2" == "2.0.0", "14.0.3-beta" > "14.0.2".
public struct DottedVersion: Comparable, Hashable, Sendable {
    /// The first eight parts, without zeros at the end.
    private let numbers: [Int]

    public init(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        var numbers = parts.prefix(Self.mostParts).map(leadingNumber)
        while numbers.last == 0 { numbers.removeLast() }
        self.numbers = numbers
    }

    public static func < (left: DottedVersion, right: DottedVersion) -> Bool {
        left.numbers.lexicographicallyPrecedes(right.numbers)
    }

    private static let mostParts = 8
}

/// An inclusive span of dotted versions, open where a bound is nil.
public struct VersionBounds: Equatable, Sendable {
    public var min: DottedVersion?
    public var max: DottedVersion?

    public init(min: DottedVersion? = nil, max: DottedVersion? = nil) {
        self.min = min
        self.max = max
    }

    func contain(_ text: String) -> Bool {
        guard min != nil || max != nil else { return true }
        guard !text.isEmpty else { return false }
        let version = DottedVersion(text)
        return min.map { version >= $0 } ?? true && max.map { version <= $0 } ?? true
    }
}

/// The number that the first digits make, at most 18 of them: it fits an `Int`.
private func leadingNumber(_ part: Substring.UTF8View) -> Int {
    part.prefix(18).prefix(while: isDigit).reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
}
