import XCTest

@testable import Aerogram

final class JSONTests: XCTestCase {
    func testCanonicalBytesOfTheVectors() throws {
        for each in try Vectors.members("canonical_json").cases("cases") {
            let value = try XCTUnwrap(each.document["value"])
            let bytes = try CanonicalJSON.encode(value)
            XCTAssertEqual(hexadecimal(bytes), try each.text("canonical_utf8_hex"), "\(value)")
        }
    }

    func testWhatIsNeverSigned() throws {
        for each in try Vectors.members("canonical_json").list("refused") {
            XCTAssertThrowsError(try CanonicalJSON.encode(each), "\(each)")
        }
        XCTAssertNoThrow(try CanonicalJSON.encode(.integer(-CanonicalJSON.largestInteger)))
        XCTAssertThrowsError(try CanonicalJSON.encode(.integer(-CanonicalJSON.largestInteger - 1)))
    }

    func testTextsOfTheVectors() throws {
        let members = try Vectors.members("json_texts")
        for each in try members.cases("accepted") {
            let (name, value) = (try each.text("name"), try JSON(parsing: each.bytes("utf8_hex")))
            XCTAssertEqual(try CanonicalJSON.encode(value), try each.bytes("canonical_utf8_hex"), name)
        }
        for each in try members.cases("refused") {
            let (name, bytes) = (try each.text("name"), try each.bytes("utf8_hex"))
            XCTAssertThrowsError(try JSON(parsing: bytes), name) { XCTAssert($0 is DocumentError) }
        }
    }

    func testValuesOfEveryKind() throws {
        XCTAssertEqual(
            try parsed(
                #" [ null,true , false,0,-1,1.5,1e2,1.0, "a\"\\\/\b\f\n\r\t\u0041\ud83d\ude80ä" , {"a":{}} ,[]] "#
            ),
            .list([
                .null, .bool(true), .bool(false), .integer(0), .integer(-1), .number(1.5), .number(100), .number(1),
                .text("a\"\\/\u{8}\u{c}\n\r\tA🚀ä"), .object(["a": .object([:])]), .list([]),
            ])
        )
        XCTAssertEqual(try parsed("9223372036854775808"), .number(9_223_372_036_854_775_808))
    }

    func testNamesThatOnlyLookTheSameAreTwo() throws {
        let members = try Members(parsed(#"{"caf\u00e9": 1, "cafe\u0301": 2}"#), at: "document")
        XCTAssertEqual(members.document.count, 2)
    }

    func testOtherTextsThatAreNoJSON() throws {
        for text in [
            "{", #"{"a"}"#, #"{"a":}"#, "[,1]", ".5", "1e+", "--1", #""\""#, #""\u123g""#, #""\ud800\u0041""#, #""\udc00""#,
            "\"\\u00e9\nb\"", String(repeating: "[", count: 100_000),
        ] {
            XCTAssertThrowsError(try parsed(text), "\(text.prefix(40))") { XCTAssert($0 is DocumentError) }
        }
    }

    func testTheDeepest() {
        for (levels, isRead) in [(JSON.deepest, true), (JSON.deepest + 1, false)] {
            let text = String(repeating: "[", count: levels) + "1" + String(repeating: "]", count: levels)
            XCTAssertEqual((try? parsed(text)) != nil, isRead)
        }
    }
}
