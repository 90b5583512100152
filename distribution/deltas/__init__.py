"""weightdiff-1: what a phone needs to make a new model file from the one it has. Pure. Format: docs/weightdiff.md."""
