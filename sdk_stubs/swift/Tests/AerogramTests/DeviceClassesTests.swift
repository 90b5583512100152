import XCTest

@testable import Aerogram

final class DeviceClassesTests: XCTestCase {
    func testVersionsOfTheVectors() throws {
        for each in try Vectors.members("device_classes").cases("compare_versions") {
            let (a, b) = (DottedVersion(try each.text("a")), DottedVersion(try each.text("b")))
            guard case .integer(let result)? = each.document["result"] else { return XCTFail("no result") }
            XCTAssertEqual(a < b ? -1 : a == b ? 0 : 1, result, "\(each.document)")
        }
    }

    func testLongVersions() {
        XCTAssertEqual(DottedVersion("1.2.3.4.5.6.7.8.9"), DottedVersion("1.2.3.4.5.6.7.8"))
        XCTAssertEqual(DottedVersion("1234567890123456789"), DottedVersion("123456789012345678"))
        XCTAssertEqual(DottedVersion("1٣"), DottedVersion("1"))
    }

    func testClassesOfTheVectors() throws {
        let members = try Vectors.members("device_classes")
        let classes = try members.cases("classes").map(DeviceClass.init)
        let tried: [(JSON.Name, [DeviceClass])] = [("match", classes), ("match_without_fallback", classes.dropLast())]
        for (name, classes) in tried {
            for each in try members.cases(name) {
                let profile = try each.object("profile").profile()
                XCTAssertEqual(classes.match(profile)?.name, try each.optionalText("device_class"), "\(profile)")
            }
        }
    }

    func testNamesAreComparedByCodePoints() {
        var selector = DeviceClass.Selector()
        selector.deviceInclude = ["caf\u{e9}"]
        XCTAssertTrue(selector.accepts(DeviceProfile(os: "ios", device: "caf\u{e9}")))
        XCTAssertFalse(selector.accepts(DeviceProfile(os: "ios", device: "cafe\u{301}")))
    }
}

