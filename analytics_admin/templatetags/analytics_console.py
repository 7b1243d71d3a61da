"""The filters of the console's templates: times, numbers and messages."""

from django import template

from analytics_admin.console import labels, obedience, times
from analytics_admin.i18n import localized, translate_stored

register = template.Library()

register.filter(times.moment)
register.filter(times.clock)
register.filter(times.age)
register.filter(times.countdown)
register.filter(labels.count)
register.filter(labels.breakable)
register.filter(obedience.read_tag)
register.filter(localized)
register.filter(translate_stored)
