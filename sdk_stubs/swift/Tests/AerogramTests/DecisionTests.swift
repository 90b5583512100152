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
