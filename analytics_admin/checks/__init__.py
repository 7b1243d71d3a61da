"""System checks of settings, caches and tokens."""
