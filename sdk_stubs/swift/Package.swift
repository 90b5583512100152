// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "Aerogram",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        .library(name: "Aerogram", targets: ["Aerogram"]),
        .executable(name: "aerogram-runner", targets: ["aerogram-runner"]),
    ],
    targets: [
        .systemLibrary(name: "CZlib"),
        .target(
            name: "Aerogram", dependencies: ["CZlib"], swiftSettings: [.enableExperimentalFeature("StrictConcurrency")]),
        .executableTarget(name: "aerogram-runner", dependencies: ["Aerogram"]),
        .testTarget(name: "AerogramTests", dependencies: ["Aerogram", "CZlib"]),
    ]
)
