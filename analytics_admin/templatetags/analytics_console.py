"""What the console's templates say instants with, ``{{ at|moment }}`` and the like; ``|here``."""

from django import template

from analytics_admin.console import instants
from analytics_admin.said import from_record, here

register = template.Library()

register.filter(instants.moment)
register.filter(instants.clock)
register.filter(instants.ago)
register.filter(instants.left)
register.filter(here)
register.filter(from_record)
