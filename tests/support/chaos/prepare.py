"""Makes the database of a run, and the one who acts in it."""

import django

if __name__ == "__main__":
    django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command

from tests.support.chaos.operators import USER

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    get_user_model().objects.create_superuser(USER, "", "pw")
