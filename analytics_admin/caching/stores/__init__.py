"""Where the search cache keeps its entries: memory or Redis."""
