"""The ways to clear the search cache."""
