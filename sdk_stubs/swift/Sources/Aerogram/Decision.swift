/// Why a device gets what it gets; the protocol's words.
public enum Reason: String, CaseIterable, Sendable {
    case currentRelease = "current_release"
    case rolloutTreatment = "rollout_treatment"
    case rolloutControl = "rollout_control"
    case experimentArm = "experiment_arm"
    case holdback
    case override
    case halted
    case killSwitch = "kill_switch"
    case useEmbedded = "use_embedded"
    case noCompatibleVariant = "no_compatible_variant"
    case floor
    case noUnit = "no_unit"
    case unknownModel = "unknown_model"
}

/// What a device gets for one model: what a poll would answer, computed without telling anybody who asks.
public struct Decision: Equatable, Sendable {
    public var reason: Reason
    /// Nil: the model embedded in the app, or nothing.
    public var version: Int?
    public var variant: String?
    public var experiment: String?
    public var phase: Int?
    public var arm: String?
    public var deviceClass: String?
    /// Nil changes nothing on the device.
    public var manifest: Catalog.Reference?
}

extension Catalog {
    /// Which manifest is meant for this device, and why. Every parsed catalog gives a decision.
    ///
    /// The first of these that holds decides:
    ///
    /// | when                                         | serves                      | reason                      |
    /// | -------------------------------------------- | --------------------------- | --------------------------- |
    /// | the channel has no such model                | nothing                     | unknownModel                |
    /// | the kill switch is on                        | its `use_embedded` manifest | killSwitch                  |
    /// | there is no unit                             | current, or nothing         | noUnit                      |
    /// | the unit is pinned                           | the version pinned          | override                    |
    /// | its bucket lies in the holdback [1]          | the version held back       | holdback                    |
    /// | an experiment's layer and an arm hold it [2] | the arm's version           | `Experiment.reason(for:)`   |
    /// | … halted, and the device runs it not yet [3] | the control's version       | halted                      |
    /// | otherwise                                    | the current release         | currentRelease, useEmbedded |
    ///
    /// [1] And the version has a variant for the device. [2] And every arm has one. [3] In an arm that is not the
    /// control.
    ///
    /// Afterwards a floor that the device would skip is served first (`floor`), and a version without a variant for the
    /// device gives `noCompatibleVariant` and no manifest.
    ///
    /// - Parameter currentVersion: the model version that the device runs now, nil if unknown.
    public func decide(
        _ name: String, for profile: DeviceProfile, unit: UnitID?, currentVersion: Int? = nil
    ) -> Decision {
        guard let model = models[name] else { return Decision(reason: .unknownModel) }
        if let manifest = model.killSwitch { return Decision(reason: .killSwitch, manifest: manifest) }
        let device = Device(
            profile: profile, deviceClass: deviceClasses.match(profile), currentVersion: currentVersion
        )
        return model.served(to: device, model.choice(for: device, unit))
    }
}

/// One device that asks.
private struct Device {
    let profile: DeviceProfile
    let deviceClass: DeviceClass?
    let currentVersion: Int?

    /// The first of the class's preferred variants that exists and runs on the device.
    func choose(from variants: [Catalog.Variant]) -> Catalog.Variant? {
        for name in deviceClass?.variants ?? [] {
            if let variant = variants.last(where: { $0.name.isExactly(name) }), runs(variant) { return variant }
        }
        return nil
    }

    /// A runtime that the device does not name is vouched for by its class; a version that it does not name is not.
    private func runs(_ variant: Catalog.Variant) -> Bool {
        guard profile.runtime.isEmpty || profile.runtime.isExactly(variant.runtime) else { return false }
        guard !variant.minRuntimeVersion.isEmpty else { return true }
        guard !profile.runtimeVersion.isEmpty else { return false }
        return DottedVersion(profile.runtimeVersion) >= DottedVersion(variant.minRuntimeVersion)
    }
}

/// What the rules before floor and variant arrive at.
private struct Choice {
    let reason: Reason
    let version: Int?
    var experiment: Catalog.Experiment?
    var arm: Catalog.Arm?
}

extension Catalog.Model {
    fileprivate func choice(for device: Device, _ unit: UnitID?) -> Choice {
        guard let unit else { return Choice(reason: .noUnit, version: noUnit == .current ? current : nil) }
        if let pinned = overrides.version(for: unit) { return Choice(reason: .override, version: pinned) }
        if let version = heldBack(device, unit) { return Choice(reason: .holdback, version: version) }
        for experiment in experiments {
            if let arm = arm(of: experiment, for: device, unit) { return choice(for: device, experiment, arm) }
        }
        return Choice(reason: current == nil ? .useEmbedded : .currentRelease, version: current)
    }

    private func heldBack(_ device: Device, _ unit: UnitID) -> Int? {
        guard let holdback, holdback.range.contains(Bucketing.bucket(of: unit, salt: holdback.salt)),
            variant(of: holdback.version, for: device) != nil
        else { return nil }
        return holdback.version
    }

    /// The arm that holds the unit, if the experiment is for this unit and device at all.
    private func arm(of experiment: Catalog.Experiment, for device: Device, _ unit: UnitID) -> Catalog.Arm? {
        guard experiment.layerRange.contains(Bucketing.bucket(of: unit, salt: experiment.layerSalt)),
            experiment.arms.compactMap(\.version).allSatisfy({ variant(of: $0, for: device) != nil })
        else { return nil }
        let bucket = Bucketing.bucket(of: unit, salt: experiment.armSalt)
        return experiment.arms.first { arm in arm.ranges.contains { $0.contains(bucket) } }
    }

    private func choice(for device: Device, _ experiment: Catalog.Experiment, _ arm: Catalog.Arm) -> Choice {
        let runsAlready = device.currentVersion != nil && device.currentVersion == arm.version
        guard experiment.isHalted(for: device.deviceClass), !arm.isControl, !runsAlready else {
            return Choice(reason: experiment.reason(for: arm), version: arm.version, experiment: experiment, arm: arm)
        }
        let version = experiment.control.map(\.version) ?? current
        return Choice(reason: .halted, version: version, experiment: experiment, arm: arm)
    }

    fileprivate func served(to device: Device, _ choice: Choice) -> Decision {
        var decision = Decision(
            reason: choice.reason,
            experiment: choice.experiment?.slug,
            phase: choice.experiment?.phase,
            arm: choice.arm?.name,
            deviceClass: device.deviceClass?.name
        )
        guard let wanted = choice.version else { return decision }
        let floor = floor(before: wanted, for: device)
        let version = floor ?? wanted
        decision.version = version
        guard let variant = variant(of: version, for: device) else {
            decision.reason = .noCompatibleVariant
            return decision
        }
        if floor != nil { decision.reason = .floor }
        decision.variant = variant.name
        decision.manifest = variant.manifest
        return decision
    }

    /// The lowest floor above what the device runs and below `version` that it can run: others would strand it.
    private func floor(before version: Int, for device: Device) -> Int? {
        guard let running = device.currentVersion else { return nil }
        return floors.first { running < $0 && $0 < version && variant(of: $0, for: device) != nil }
    }

    private func variant(of version: Int, for device: Device) -> Catalog.Variant? {
        device.choose(from: versions[version] ?? [])
    }
}

extension Catalog.Experiment {
    /// For everybody, or for the device's class.
    fileprivate func isHalted(for deviceClass: DeviceClass?) -> Bool {
        guard state != .halted else { return true }
        guard let deviceClass else { return false }
        return haltedClasses.contains { $0.isExactly(deviceClass.name) }
    }

    /// By the experiment's kind and the arm's part in it.
    func reason(for arm: Catalog.Arm) -> Reason {
        switch kind {
        case .rollout: return arm.isControl ? .rolloutControl : .rolloutTreatment
        case .holdback: return arm.isControl ? .holdback : .experimentArm
        case .ab, .aa: return .experimentArm
        }
    }
}
