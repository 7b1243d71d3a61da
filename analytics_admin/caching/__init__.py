"""The search cache, and how it is cleared."""
