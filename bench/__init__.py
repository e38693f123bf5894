"""The promises with numbers, measured (`just bench`); docs/performance.md keeps the last table."""
