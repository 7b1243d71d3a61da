"""The console: the app's pages in the Django admin. Asks and acts through the services alone."""
