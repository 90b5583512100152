/// What a device says of itself. Empty text and nil mean unknown; nothing else is ever told about it.
public struct DeviceProfile: Equatable, Sendable {
    /// A lower-case token: `ios`, `android`.
    public var os: String
    /// Dotted, as are the other versions.
    public var osVersion: String
    public var appVersion: String
    /// `coreml`, `litert`, …: variants are built for one.
    public var runtime: String
    public var runtimeVersion: String
    /// Manufacturer and model, as `Apple/iPhone15,2`.
    public var device: String
    public var soc: String
    /// In MiB.
    public var ramMB: Int?
    public var accelerators: [String]

    public init(
        os: String, osVersion: String = "", appVersion: String = "", runtime: String = "", runtimeVersion: String = "",
        device: String = "", soc: String = "", ramMB: Int? = nil, accelerators: [String] = []
    ) {
        self.os = os
        self.osVersion = osVersion
        self.appVersion = appVersion
        self.runtime = runtime
        self.runtimeVersion = runtimeVersion
        self.device = device
        self.soc = soc
        self.ramMB = ramMB
        self.accelerators = accelerators
    }
}

public struct DeviceClass: Equatable, Sendable {
    public let name: String
    public let selector: Selector
    /// In order of preference.
    public let variants: [String]
    /// What the runtime should try first.
    public let delegateOrder: [String]
}

extension DeviceClass {
    /// Conditions on a profile, all of which must hold. Bounds are inclusive; names are compared exactly. A bound on a
    /// fact that the profile does not state is not met.
    public struct Selector: Equatable, Sendable {
        /// Empty, or the profile's value is one of them; so are `runtime`, `soc` and `deviceInclude`.
        public var os: [String] = []
        public var osVersion = VersionBounds()
        public var appVersion = VersionBounds()
        public var runtime: [String] = []
        public var runtimeVersion = VersionBounds()
        /// In MiB.
        public var ramMBMin: Int?
        public var ramMBMax: Int?
        public var soc: [String] = []
        /// The profile has every one of them.
        public var acceleratorsAll: [String] = []
        public var deviceInclude: [String] = []
        /// The profile's device is none of them.
        public var deviceExclude: [String] = []

        public init() {}

        public func accepts(_ profile: DeviceProfile) -> Bool {
            admits(os, profile.os)
                && osVersion.contain(profile.osVersion)
                && appVersion.contain(profile.appVersion)
                && admits(runtime, profile.runtime)
                && runtimeVersion.contain(profile.runtimeVersion)
                && hasFittingRAM(profile.ramMB)
                && admits(soc, profile.soc)
                && acceleratorsAll.allSatisfy { names($0, in: profile.accelerators) }
                && admits(deviceInclude, profile.device)
                && !names(profile.device, in: deviceExclude)
        }

        private func hasFittingRAM(_ value: Int?) -> Bool {
            guard ramMBMin != nil || ramMBMax != nil else { return true }
            guard let value else { return false }
            return value >= ramMBMin ?? .min && value <= ramMBMax ?? .max
        }
    }
}

extension Collection where Element == DeviceClass {
    /// The first class that accepts the device; an empty selector is the fallback.
    public func match(_ profile: DeviceProfile) -> DeviceClass? {
        first { $0.selector.accepts(profile) }
    }
}

private func admits(_ allowed: [String], _ value: String) -> Bool {
    allowed.isEmpty || names(value, in: allowed)
}

private func names(_ value: String, in list: [String]) -> Bool {
    list.contains { $0.isExactly(value) }
}
