import Foundation

/// What a channel serves, as a device reads it: parsed and checked, not trusted by itself.
///
/// Whatever `decide` could stumble over, or would have to guess, is refused: unknown kinds and conditions, versions
/// that are not listed, ranges that overlap. Members that this version does not know are ignored elsewhere.
public struct Catalog: Equatable, Sendable {
    public let application: String
    public let channel: String
    /// When to look again, in seconds; 1 or more.
    public let pollAfterSeconds: Int
    /// In the order in which they are tried.
    public let deviceClasses: [DeviceClass]
    public let models: [String: Model]

    /// What the channel serves of one model.
    public struct Model: Equatable, Sendable {
        /// Nil: the app keeps its embedded model.
        public let current: Int?
        public let versions: [Int: [Variant]]
        /// The manifest that sends every device back to its embedded model, while the switch is on.
        public let killSwitch: Reference?
        public let noUnit: NoUnitRule
        /// Versions that no device skips, ascending.
        public let floors: [Int]
        public let holdback: Holdback?
        public let overrides: Overrides
        public let experiments: [Experiment]
    }

    /// One signed manifest: a model version built for one format and precision.
    public struct Variant: Equatable, Sendable {
        public let name: String
        public let runtime: String
        /// Empty: any.
        public let minRuntimeVersion: String
        public let manifest: Reference
    }

    /// A file of the signed tree: path below the application's folder, hex digest and length in bytes.
    public struct Reference: Equatable, Sendable {
        public let path: String
        public let sha256: String
        public let length: Int
    }

    /// What a device without a unit gets.
    public enum NoUnitRule: String, CaseIterable, Sendable { case current, none }

    /// Units whose bucket under `salt` lies in `range` stay on `version`.
    public struct Holdback: Equatable, Sendable {
        public let salt: String
        public let range: Range<Int>
        public let version: Int
    }

    /// Versions pinned for single units.
    public struct Overrides: Equatable, Sendable {
        public var salt = ""
        /// By the hex digest of salt, colon and unit.
        public var units: [String: Int] = [:]

        public func version(for unit: UnitID) -> Int? {
            units.isEmpty ? nil : units[Overrides.key(salt: salt, unit: unit)]
        }

        static func key(salt: String, unit: UnitID) -> String {
            SHA256.hexDigest("\(salt):\(unit.id)")
        }
    }

    public struct Experiment: Equatable, Sendable {
        public enum Kind: String, CaseIterable, Sendable { case rollout, ab, aa, holdback }
        public enum State: String, CaseIterable, Sendable { case running, halted }

        public let slug: String
        public let kind: Kind
        public let state: State
        public let phase: Int
        /// Units whose bucket under `layerSalt` lies in `layerRange` take part.
        public let layerSalt: String
        public let layerRange: Range<Int>
        public let armSalt: String
        public let arms: [Arm]
        /// Device classes for which the experiment is halted while it runs for the others.
        public let haltedClasses: [String]

        public var control: Arm? { arms.first(where: \.isControl) }
    }

    public struct Arm: Equatable, Sendable {
        public let name: String
        /// Nil is the model embedded in the app.
        public let version: Int?
        public let isControl: Bool
        public let ranges: [Range<Int>]
    }
}

// MARK: - Reading

extension Catalog {
    /// Reads the content of a catalog's file. Throws DocumentError.
    public init(parsing data: Data) throws {
        try self.init(JSON(parsing: data))
    }

    /// Throws DocumentError with the path of what is wrong, what was expected and what was got.
    package init(_ document: JSON) throws {
        let members = try Members(document, at: "catalog")
        let _: DocumentType = try members.one("_type")
        let _: SpecVersion = try members.one("spec_version")
        application = try members.text("application", .name)
        channel = try members.text("channel", .name)
        pollAfterSeconds = try members.integer("poll_after_seconds", least: 1)
        deviceClasses = try members.objects("device_classes").map(DeviceClass.init)
        models = try members.named("models", .name) { inner, name in try Model(inner.object(name)) }
        guard Set(deviceClasses.map { JSON.Name($0.name) }).count == deviceClasses.count else {
            throw members.wrong("device_classes", "unique names")
        }
    }

    private enum DocumentType: String, CaseIterable { case catalog = "aerogram-catalog" }
    private enum SpecVersion: String, CaseIterable { case one = "1" }
}

extension DeviceClass {
    init(_ members: Members) throws {
        name = try members.text("name")
        selector = try Selector(members.object("selector"))
        variants = try members.texts("variants")
        delegateOrder = try members.texts("delegate_order")
    }
}

extension DeviceClass.Selector {
    private static let conditions: Set<JSON.Name> = [
        "os", "os_version_min", "os_version_max", "app_version_min", "app_version_max", "runtime",
        "runtime_version_min", "runtime_version_max", "ram_mb_min", "ram_mb_max", "soc", "accelerators_all",
        "device_include", "device_exclude",
    ]

    /// A condition that this version does not know would widen the class if it were ignored.
    init(_ members: Members) throws {
        if let unknown = Set(members.document.keys).subtracting(Self.conditions).min() {
            throw members.wrong(unknown, "a condition this version knows")
        }
        os = try members.texts("os")
        osVersion = try VersionBounds(members, "os_version")
        appVersion = try VersionBounds(members, "app_version")
        runtime = try members.texts("runtime")
        runtimeVersion = try VersionBounds(members, "runtime_version")
        ramMBMin = try members.optionalInteger("ram_mb_min")
        ramMBMax = try members.optionalInteger("ram_mb_max")
        soc = try members.texts("soc")
        acceleratorsAll = try members.texts("accelerators_all")
        deviceInclude = try members.texts("device_include")
        deviceExclude = try members.texts("device_exclude")
    }
}

extension VersionBounds {
    init(_ members: Members, _ fact: String) throws {
        func bound(_ name: JSON.Name) throws -> DottedVersion? {
            members.has(name) ? DottedVersion(try members.text(name)) : nil
        }
        self.init(min: try bound(JSON.Name("\(fact)_min")), max: try bound(JSON.Name("\(fact)_max")))
    }
}

extension Catalog.Model {
    init(_ members: Members) throws {
        current = try members.optionalInteger("current", least: 1)
        versions = try Self.versions(members)
        killSwitch = try members.optionalObject("kill_switch").map { try Catalog.Reference($0.object("manifest")) }
        noUnit = try members.one("no_unit")
        floors = try members.integers("floors").sorted()
        holdback = try members.optionalObject("holdback").map(Catalog.Holdback.init)
        overrides = try members.optionalObject("overrides").map(Catalog.Overrides.init) ?? Catalog.Overrides()
        experiments = try members.objects("experiments").map(Catalog.Experiment.init)
        try refuseUnlisted(members)
        for ranges in Dictionary(grouping: experiments, by: \.layerSalt).values {
            try refuseOverlap(of: ranges.map(\.layerRange), members, "experiments")
        }
    }

    private static func versions(_ members: Members) throws -> [Int: [Catalog.Variant]] {
        var versions: [Int: [Catalog.Variant]] = [:]
        for (text, variants) in try members.named("versions", .version, { inner, number in
            try inner.object(number).objects("variants").map(Catalog.Variant.init)
        }) {
            guard let version = Int(text) else { throw members.wrong("versions", "names that are integers") }
            versions[version] = variants
        }
        return versions
    }

    private func refuseUnlisted(_ members: Members) throws {
        var named = floors + overrides.units.values + experiments.flatMap(\.arms).compactMap(\.version)
        named += [current, holdback?.version].compactMap { $0 }
        if let unlisted = named.filter({ versions[$0] == nil }).min() {
            throw members.wrong("versions", "version \(unlisted), which something names, among them")
        }
    }
}

extension Catalog.Variant {
    init(_ members: Members) throws {
        name = try members.text("name", .name)
        runtime = try members.text("runtime", .name)
        minRuntimeVersion = try members.text("min_runtime_version", default: "")
        manifest = try Catalog.Reference(members.object("manifest"))
    }
}

extension Catalog.Reference {
    init(_ members: Members) throws {
        path = try members.text("path", .path)
        sha256 = try members.text("sha256", .sha256)
        length = try members.integer("length")
    }
}

extension Catalog.Holdback {
    init(_ members: Members) throws {
        salt = try members.text("salt", .salt)
        range = try members.range("range")
        version = try members.integer("version", least: 1)
    }
}

extension Catalog.Overrides {
    /// The salt counts for nothing while no unit is listed.
    init(_ members: Members) throws {
        guard let listed = try members.optionalObject("units"), !listed.document.isEmpty else { return }
        units = try members.named("units", .sha256) { inner, key in try inner.integer(key, least: 1) }
        salt = try members.text("salt", .salt)
    }
}

extension Catalog.Experiment {
    init(_ members: Members) throws {
        let layer = try members.object("layer")
        slug = try members.text("slug", .name)
        kind = try members.one("kind")
        state = try members.one("state")
        phase = try members.integer("phase", least: 1)
        layerSalt = try layer.text("salt", .salt)
        layerRange = try layer.range("range")
        armSalt = try members.text("arm_salt", .salt)
        arms = try members.objects("arms").map(Catalog.Arm.init)
        haltedClasses = try members.texts("halted_classes")
        guard arms.filter(\.isControl).count <= 1 else { throw members.wrong("arms", "at most one control") }
        try refuseOverlap(of: arms.flatMap(\.ranges), members, "arms")
    }
}

extension Catalog.Arm {
    init(_ members: Members) throws {
        name = try members.text("name", .name)
        version = try members.optionalInteger("version", least: 1)
        isControl = try members.flag("control")
        ranges = try members.ranges("ranges")
    }
}

private func refuseOverlap(of ranges: [Range<Int>], _ members: Members, _ name: JSON.Name) throws {
    let ordered = ranges.filter { !$0.isEmpty }.sorted { $0.lowerBound < $1.lowerBound }
    for (earlier, later) in zip(ordered, ordered.dropFirst()) where earlier.overlaps(later) {
        throw members.wrong(name, "ranges that do not overlap, and bucket \(later.lowerBound) in one")
    }
}
