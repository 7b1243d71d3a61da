"""What the search cache holds."""
