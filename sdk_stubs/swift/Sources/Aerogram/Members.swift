/// Typed reading of one JSON object. Every reader throws a DocumentError that says where, what was expected and got.
struct Members {
    let document: [JSON.Name: JSON]
    let at: String

    init(_ value: JSON?, at: String) throws {
        guard case .object(let document)? = value else {
            throw DocumentError(at: at, expected: "an object", got: brief(value))
        }
        self.document = document
        self.at = at
    }

    func wrong(_ name: JSON.Name, _ expected: String) -> DocumentError {
        DocumentError(at: "\(at).\(name.text)", expected: expected, got: brief(document[name]))
    }

    /// Whether the member is there and not null.
    func has(_ name: JSON.Name) -> Bool {
        (document[name] ?? .null) != .null
    }

    func text(_ name: JSON.Name, _ form: Form = .any, default fallback: String? = nil) throws -> String {
        if document[name] == nil, let fallback { return fallback }
        guard case .text(let text)? = document[name], form.holds(text) else {
            throw wrong(name, "a string like \(form.pattern)")
        }
        return text
    }

    /// An enumeration by its raw value.
    func one<Value: RawRepresentable & CaseIterable>(_ name: JSON.Name) throws -> Value where Value.RawValue == String {
        guard let value = Value(rawValue: try text(name)) else {
            throw wrong(name, "one of " + Value.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return value
    }

    func integer(_ name: JSON.Name, least: Int = 0) throws -> Int {
        let bounds = least...CanonicalJSON.largestInteger
        guard case .integer(let integer)? = document[name], bounds.contains(integer) else {
            throw wrong(name, "an integer of \(least) or more")
        }
        return integer
    }

    func optionalInteger(_ name: JSON.Name, least: Int = 0) throws -> Int? {
        has(name) ? try integer(name, least: least) : nil
    }

    func flag(_ name: JSON.Name) throws -> Bool {
        switch document[name] {
        case nil: return false
        case .bool(let flag)?: return flag
        default: throw wrong(name, "true or false")
        }
    }

    func list(_ name: JSON.Name) throws -> [JSON] {
        switch document[name] {
        case nil: return []
        case .list(let items)?: return items
        default: throw wrong(name, "a list")
        }
    }

    func texts(_ name: JSON.Name) throws -> [String] {
        try list(name).map { item in
            guard case .text(let text) = item else { throw wrong(name, "a list of strings") }
            return text
        }
    }

    func integers(_ name: JSON.Name) throws -> [Int] {
        try list(name).map { item in
            guard case .integer(let integer) = item else { throw wrong(name, "a list of integers") }
            return integer
        }
    }

    func object(_ name: JSON.Name) throws -> Members {
        try Members(document[name], at: "\(at).\(name.text)")
    }

    func optionalObject(_ name: JSON.Name) throws -> Members? {
        has(name) ? try object(name) : nil
    }

    func objects(_ name: JSON.Name) throws -> [Members] {
        try list(name).enumerated().map { try Members($1, at: "\(at).\(name.text)[\($0)]") }
    }

    /// Each member of the object `name`, read by its name.
    func named<Value>(
        _ name: JSON.Name, _ form: Form, _ read: (Members, JSON.Name) throws -> Value
    ) throws -> [String: Value] {
        let inner = try object(name)
        var values: [String: Value] = [:]
        for key in inner.document.keys {
            guard form.holds(key.text) else { throw wrong(name, "names like \(form.pattern)") }
            values[key.text] = try read(inner, key)
        }
        return values
    }

    /// A half-open range of buckets, [first, end].
    func range(_ name: JSON.Name) throws -> Range<Int> {
        try bucketRange(name, document[name])
    }

    func ranges(_ name: JSON.Name) throws -> [Range<Int>] {
        try list(name).map { try bucketRange(name, $0) }
    }

    private func bucketRange(_ name: JSON.Name, _ value: JSON?) throws -> Range<Int> {
        guard case .list(let ends)? = value, ends.count == 2, case .integer(let first) = ends[0],
            case .integer(let end) = ends[1], 0 <= first, first <= end, end <= Bucketing.buckets
        else {
            throw wrong(name, "bucket ranges [first, end] with 0 <= first <= end <= \(Bucketing.buckets)")
        }
        return first..<end
    }
}

private func brief(_ value: JSON?) -> String {
    guard let value else { return "nothing" }
    let text = "\(value)"
    return text.count <= 80 ? text : text.prefix(79) + "…"
}
