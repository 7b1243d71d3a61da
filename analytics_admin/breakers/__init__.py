"""Circuit breakers shared by every process of a site."""
