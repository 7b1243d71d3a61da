"""The admin's pages about operations."""
