import XCTest

@testable import Aerogram

final class CatalogTests: XCTestCase {
    func testCatalogsOfTheVectors() throws {
        let members = try Vectors.members("catalogs")
        for each in try members.cases("accepted") {
            let name = try each.text("name")
            XCTAssertNoThrow(try Catalog(each.document["catalog"] ?? .null), name)
        }
        for each in try members.cases("refused") {
            let name = try each.text("name")
            XCTAssertThrowsError(try Catalog(each.document["catalog"] ?? .null), name) { XCTAssert($0 is DocumentError) }
        }
    }

    func testTheMembersAreRead() throws {
        let catalog = try Catalog(Vectors.members("decisions").document["catalog"] ?? .null)
        XCTAssertEqual(catalog.application, "demo")
        XCTAssertEqual(catalog.pollAfterSeconds, 14_400)
        XCTAssertEqual(catalog.models["floored"]?.floors, [3, 4])
        XCTAssertEqual(catalog.models["ramped"]?.overrides.units.count, 3)
        XCTAssertEqual(catalog.deviceClasses.last?.delegateOrder, ["xnnpack"])
    }

    func testAnErrorSaysWhere() throws {
        let classes = #"[{"name": "all", "selector": {"os": "ios"}, "variants": []}]"#
        let text = """
            {"_type": "aerogram-catalog", "spec_version": "1", "application": "demo", "channel": "production",
             "poll_after_seconds": 60, "device_classes": \(classes), "models": {}}
            """
        XCTAssertThrowsError(try Catalog(parsing: Data(text.utf8))) { error in
            XCTAssertEqual("\(error)", #"catalog.device_classes[0].selector.os: expected a list, got text("ios")"#)
        }
    }

    func testOneIsAnIntegerAndNothingElse() throws {
        for (text, isInteger) in [("1", true), ("1.0", false), ("1e0", false), ("true", false), ("\"1\"", false)] {
            let members = try Members(parsed("{\"version\": \(text)}"), at: "document")
            XCTAssertEqual((try? members.integer("version")) == 1, isInteger, text)
        }
    }
}
