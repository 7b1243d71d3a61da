"""The REST door: HTTP and JSON in front of the services."""
