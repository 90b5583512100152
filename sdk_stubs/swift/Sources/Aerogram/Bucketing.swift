/// Which of 10 000 buckets a unit falls into under a salt.
///
/// Mozilla Nimbus' function: the first 48 bits of SHA-256 over the JSON text `["unit","salt"]`, compared with
/// boundaries that are computed in double precision (application-services: components/nimbus/src/sampling.rs).
public enum Bucketing {
    /// The number of buckets: a hundredth of a percent each.
    public static let buckets = 10_000

    /// 0..<10 000. `salt` is printable ASCII without quote and backslash, as every salt of a parsed catalog is: then
    /// its JSON is the same in every language.
    public static func bucket(of unit: UnitID, salt: String) -> Int {
        let hash = truncatedHash(of: unit, salt: salt).reduce(0) { $0 << 8 | UInt64($1) }
        // The quotient is at most one bucket off; the boundaries decide.
        var position = min(Int(hash * UInt64(buckets) >> 48), buckets - 1)
        while position + 1 < buckets, boundary(position + 1) <= hash { position += 1 }
        while boundary(position) > hash { position -= 1 }
        return position
    }

    /// The least hash of a bucket, 0...10 000; of a hundred of them exact integers would give another one.
    static func boundary(_ index: Int) -> UInt64 {
        UInt64((Double(index) / Double(buckets) * largestHash).rounded(.down))
    }

    /// The first six bytes of SHA-256 over the JSON text.
    static func truncatedHash(of unit: UnitID, salt: String) -> ArraySlice<UInt8> {
        SHA256.hash("[\"\(unit.id)\",\"\(salt)\"]".utf8).prefix(6)
    }

    private static let largestHash = Double(1 << 48 - 1)
}

/// An installation's random id, under which it is assigned to experiments; the header `Aerogram-Unit` of a poll.
public struct UnitID: Hashable, Sendable {
    public let id: String

    /// Nil unless `id` is a letter or digit and then at most 127 of letters, digits and `._:~-`.
    public init?(_ id: String) {
        guard Form.unit.holds(id) else { return nil }
        self.id = id
    }
}
