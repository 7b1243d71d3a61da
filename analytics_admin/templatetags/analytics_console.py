"""The filters of the console's templates: instants, numbers, and what was said or put on record."""

from django import template

from analytics_admin.console import labels, times
from analytics_admin.i18n import localized, translate_stored

register = template.Library()

register.filter(times.moment)
register.filter(times.clock)
register.filter(times.ago)
register.filter(times.left)
register.filter(labels.count)
register.filter(localized)
register.filter(translate_stored)
