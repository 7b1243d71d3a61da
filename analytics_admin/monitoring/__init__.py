"""What watches the site from outside: probes, metrics, and ``manage.py doctor``."""
