// Decides for the devices of a case file, one line of JSON each, as every implementation does (sdk_stubs/README.md).
import Aerogram
import Foundation

guard CommandLine.arguments.count == 2 else {
    fail("expected the path of a case file, got \(CommandLine.arguments.count - 1) arguments")
}
do {
    let cases = try Cases(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1]))
    var lines = Data()
    for device in cases.devices {
        lines.append(try cases.decide(device).line())
    }
    FileHandle.standardOutput.write(lines)
} catch {
    fail("\(error)")
}

func fail(_ words: String) -> Never {
    FileHandle.standardError.write(Data("aerogram-runner: \(words)\n".utf8))
    exit(1)
}
