"""Prints what coremltools reads in the description of a package. Run as a program."""

import json
import sys

import coremltools as ct

if __name__ == "__main__":
    described = ct.utils.load_spec(sys.argv[1]).description
    metadata = described.metadata
    found = {
        "description": metadata.shortDescription,
        "version": metadata.versionString,
        "author": metadata.author,
        "license": metadata.license,
        "user_defined": dict(metadata.userDefined),
        "features": {feature.name: feature.shortDescription for feature in (*described.input, *described.output)},
    }
    sys.stdout.write(json.dumps(found))
