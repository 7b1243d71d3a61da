"""The admin's pages about circuit breakers."""
