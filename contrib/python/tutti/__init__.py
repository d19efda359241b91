"""The pure rules of the Tutti protocol, written from proto/SPEC.md and proto/schema alone."""
