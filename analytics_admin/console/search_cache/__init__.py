"""The admin's page about the search cache."""
