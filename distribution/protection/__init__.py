"""Model protection: variants that are published encrypted, and the keys that open them (docs/protection.md)."""
