"""How often the search cache hits, counted by each process and kept by the minute."""
