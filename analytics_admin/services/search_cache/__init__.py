"""What an operator may do to the search cache and ask about it."""
