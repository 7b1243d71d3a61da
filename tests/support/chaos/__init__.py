"""A fleet under everything that may befall it, with operators at work, and a check afterwards."""
