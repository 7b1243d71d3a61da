"""Where breakers keep their state: memory, or Redis for the whole fleet."""
