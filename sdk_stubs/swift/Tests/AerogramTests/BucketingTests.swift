import XCTest

@testable import Aerogram

final class BucketingTests: XCTestCase {
    func testBucketsOfTheVectors() throws {
        for each in try Vectors.members("buckets").cases("cases") {
            let (unit, salt) = (try each.unit("unit"), try each.text("salt"))
            XCTAssertEqual(hexadecimal(Bucketing.truncatedHash(of: unit, salt: salt)), try each.text("hash"))
            XCTAssertEqual(Bucketing.bucket(of: unit, salt: salt), try each.integer("bucket"), "\(unit.id) \(salt)")
        }
    }

    func testBoundaries() throws {
        let members = try Vectors.members("buckets")
        XCTAssertEqual(Bucketing.buckets, try members.integer("buckets"))
        for each in try members.cases("boundaries") {
            XCTAssertEqual(Bucketing.boundary(try each.integer("index")), UInt64(try each.integer("value")))
        }
    }

    func testNimbusAgrees() throws {
        for each in try Vectors.members("buckets").cases("nimbus") {
            let bucket = Bucketing.bucket(of: try each.unit("unit"), salt: try each.text("salt"))
            XCTAssertEqual(try each.range("range").contains(bucket), try each.flag("inside"))
        }
    }

    func testRangesAreHalfOpen() throws {
        for each in try Vectors.members("buckets").cases("ranges") {
            XCTAssertEqual(try each.range("range").contains(try each.integer("bucket")), try each.flag("inside"))
        }
    }

    func testKeysOfOverrides() throws {
        for each in try Vectors.members("buckets").cases("overrides") {
            let key = Catalog.Overrides.key(salt: try each.text("salt"), unit: try each.unit("unit"))
            XCTAssertEqual(key, try each.text("key"))
        }
    }

    func testUnits() {
        let longest = String(repeating: "x", count: 128)
        for id in ["a", "0", "A:b.c_d~e-f", longest] { XCTAssertNotNil(UnitID(id), id) }
        for id in ["", "-a", "a b", "a\"", "ä", "a\n", longest + "x"] { XCTAssertNil(UnitID(id), id) }
    }
}
