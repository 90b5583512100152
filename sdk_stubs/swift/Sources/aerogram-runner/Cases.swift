import Aerogram
import Foundation

/// Catalogs, and devices that ask for one model of one of them.
struct Cases {
    let catalogs: [Catalog]
    let devices: [Asking]

    /// One device: `catalog` is an index, `current` the model version that it runs.
    struct Asking: Decodable {
        let catalog: Int
        let model: String
        let profile: Profile
        let unit: String?
        let current: Int?
    }

    /// As in the query of a poll: what is unknown is left out.
    struct Profile: Decodable {
        let os, osVersion, appVersion, runtime, runtimeVersion, device, soc: String?
        let ramMb: Int?
        let accelerators: [String]?

        var known: DeviceProfile {
            DeviceProfile(
                os: os ?? "", osVersion: osVersion ?? "", appVersion: appVersion ?? "", runtime: runtime ?? "",
                runtimeVersion: runtimeVersion ?? "", device: device ?? "", soc: soc ?? "", ramMB: ramMb,
                accelerators: accelerators ?? []
            )
        }
    }

    private struct Devices: Decodable { let devices: [Asking] }

    /// Throws DocumentError if a catalog is not of the right form, and DecodingError if the rest is not.
    init(contentsOf file: URL) throws {
        let content = try Data(contentsOf: file)
        guard case .object(let members) = try JSON(parsing: content), case .list(let catalogs)? = members["catalogs"]
        else {
            throw DocumentError(at: "cases", expected: "an object with a list of catalogs", got: "another document")
        }
        self.catalogs = try catalogs.map { try Catalog($0) }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        devices = try decoder.decode(Devices.self, from: content).devices
    }

    func decide(_ asking: Asking) throws -> Decision {
        guard catalogs.indices.contains(asking.catalog) else {
            let expected = "an index below \(catalogs.count)"
            throw DocumentError(at: "devices.catalog", expected: expected, got: "\(asking.catalog)")
        }
        let unit = asking.unit.flatMap(UnitID.init)
        guard (unit == nil) == (asking.unit == nil) else {
            throw DocumentError(at: "devices.unit", expected: "the id of a unit", got: asking.unit ?? "")
        }
        return catalogs[asking.catalog].decide(
            asking.model, for: asking.profile.known, unit: unit, currentVersion: asking.current
        )
    }
}

extension Decision {
    /// All eight members on one line, null where one does not apply.
    func line() throws -> Data {
        let members: [JSON.Name: JSON] = [
            "reason": .text(reason.rawValue),
            "version": version.map(JSON.integer) ?? .null,
            "variant": variant.map(JSON.text) ?? .null,
            "experiment": experiment.map(JSON.text) ?? .null,
            "phase": phase.map(JSON.integer) ?? .null,
            "arm": arm.map(JSON.text) ?? .null,
            "device_class": deviceClass.map(JSON.text) ?? .null,
            "manifest": (manifest?.sha256).map(JSON.text) ?? .null,
        ]
        return try CanonicalJSON.encode(.object(members)) + Data("\n".utf8)
    }
}
