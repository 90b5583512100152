/// A document does not have the form it must have.
public struct DocumentError: Error, Equatable, CustomStringConvertible {
    /// A dotted path into the document.
    public let at: String
    public let expected: String
    public let got: String

    public init(at: String, expected: String, got: String) {
        self.at = at
        self.expected = expected
        self.got = got
    }

    public var description: String { "\(at): expected \(expected), got \(got)" }
}
