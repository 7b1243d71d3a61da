"""A fleet under faults writes down all that it does; a checker reads that afterwards."""
