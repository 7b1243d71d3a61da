"""What the console's templates say instants with: ``{{ at|moment }}`` and the like."""

from django import template

from analytics_admin.console import instants

register = template.Library()

register.filter(instants.moment)
register.filter(instants.clock)
register.filter(instants.ago)
register.filter(instants.left)
