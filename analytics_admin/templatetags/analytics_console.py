"""The filters of the console's templates: instants, numbers, and what was said or put on record."""

from django import template

from analytics_admin.console import instants, wording
from analytics_admin.i18n import from_record, here

register = template.Library()

register.filter(instants.moment)
register.filter(instants.clock)
register.filter(instants.ago)
register.filter(instants.left)
register.filter(wording.count)
register.filter(here)
register.filter(from_record)
