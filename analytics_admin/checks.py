"""System checks of the app's settings."""
