import Foundation
import XCTest

@testable import Aerogram

/// The files that every implementation agrees on, in `sdk_stubs/vectors`.
enum Vectors {
    static func members(_ name: String) throws -> Members {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        let folder = tests.appendingPathComponent("../../../vectors")
        return try Members(JSON(parsing: Data(contentsOf: folder.appendingPathComponent("\(name).json"))), at: name)
    }
}

extension Members {
    /// The objects of a list that holds some.
    func cases(_ name: JSON.Name) throws -> [Members] {
        let cases = try objects(name)
        XCTAssertFalse(cases.isEmpty, "\(at).\(name.text)")
        return cases
    }

    func optionalText(_ name: JSON.Name) throws -> String? {
        has(name) ? try text(name) : nil
    }

    func unit(_ name: JSON.Name) throws -> UnitID {
        try XCTUnwrap(UnitID(text(name)))
    }

    /// What is written in hexadecimal.
    func bytes(_ name: JSON.Name) throws -> Data {
        let digits = Array(try text(name))
        return try Data(stride(from: 0, to: digits.count, by: 2).map { index in
            try XCTUnwrap(UInt8(String(digits[index..<index + 2]), radix: 16))
        })
    }

    func profile() throws -> DeviceProfile {
        DeviceProfile(
            os: try text("os", default: ""), osVersion: try text("os_version", default: ""),
            appVersion: try text("app_version", default: ""), runtime: try text("runtime", default: ""),
            runtimeVersion: try text("runtime_version", default: ""), device: try text("device", default: ""),
            soc: try text("soc", default: ""), ramMB: try optionalInteger("ram_mb"),
            accelerators: try texts("accelerators")
        )
    }
}

func parsed(_ text: String) throws -> JSON {
    try JSON(parsing: Data(text.utf8))
}
