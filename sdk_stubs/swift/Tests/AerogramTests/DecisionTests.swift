import XCTest

@testable import Aerogram

final class DecisionTests: XCTestCase {
    func testDecisionsOfTheVectors() throws {
        let members = try Vectors.members("decisions")
        let catalog = try Catalog(members.document["catalog"] ?? .null)
        let profiles = try members.cases("profiles").map { try $0.profile() }
        for each in try members.cases("cases") {
            let unit = each.has("unit") ? try each.unit("unit") : nil
            let found = catalog.decide(
                try each.text("model"), for: profiles[try each.integer("profile")], unit: unit,
                currentVersion: try each.optionalInteger("current_version")
            )
            XCTAssertEqual(found.manifest?.path, try each.optionalText("manifest"), "\(each.document)")
            XCTAssertEqual(found.facts, each.document["decision"], "\(each.document)")
        }
    }

    func testAPinGoesBeforeAHoldbackThatEndsAtTheUnitsBucket() throws {
        let unit = try XCTUnwrap(UnitID("unit"))
        let bucket = Bucketing.bucket(of: unit, salt: "h")
        for (end, pinned, reason) in [
            (bucket, false, Reason.currentRelease), (bucket + 1, false, .holdback), (bucket + 1, true, .override),
        ] {
            let units = pinned ? "{\"\(Catalog.Overrides.key(salt: "o", unit: unit))\": 2}" : "{}"
            let manifest = #"{"path": "m", "sha256": "\#(digest)", "length": 1}"#
            let variant = #"{"name": "v", "runtime": "r", "manifest": \#(manifest)}"#
            let catalog = try Catalog(parsed("""
                {"_type": "aerogram-catalog", "spec_version": "1", "application": "demo", "channel": "production",
                 "poll_after_seconds": 60, "device_classes": [{"name": "all", "selector": {}, "variants": ["v"]}],
                 "models": {"digits": {
                   "current": 2, "no_unit": "current", "overrides": {"salt": "o", "units": \(units)},
                   "versions": {"1": {"variants": [\(variant)]}, "2": {"variants": [\(variant)]}},
                   "holdback": {"salt": "h", "range": [0, \(end)], "version": 1}}}}
                """))
            XCTAssertEqual(catalog.decide("digits", for: DeviceProfile(os: "ios"), unit: unit).reason, reason)
        }
    }

    private let digest = String(repeating: "0", count: 64)
}

extension Decision {
    /// The `decision` object of a poll's answer: what is known, without the manifest.
    fileprivate var facts: JSON {
        let members: [JSON.Name: JSON?] = [
            "reason": .text(reason.rawValue), "version": version.map(JSON.integer), "variant": variant.map(JSON.text),
            "experiment": experiment.map(JSON.text), "phase": phase.map(JSON.integer), "arm": arm.map(JSON.text),
            "device_class": deviceClass.map(JSON.text),
        ]
        return .object(members.compactMapValues { $0 })
    }
}
