from copy import copy
from typing import Any

from django.db import migrations, models


def drop_foreign_key(apps: Any, schema_editor: Any) -> None:
    """Remove the constraint of databases that the first migration made when it had one."""
    operation = apps.get_model("analytics_admin", "Operation")
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, operation._meta.db_table)
    user = operation._meta.get_field("user")
    if any(each["foreign_key"] and each["columns"] == [user.column] for each in constraints.values()):
        constrained = copy(user)
        constrained.db_constraint = True
        schema_editor.alter_field(operation, constrained, user)


class Migration(migrations.Migration):

    dependencies = [
        ("analytics_admin", "0004_operation_kind_label"),
    ]

    operations = [
        migrations.RunPython(
            drop_foreign_key, migrations.RunPython.noop, hints={"model_name": "operation"}
        ),
        migrations.RemoveIndex(model_name="operation", name="aa_operation_kind"),
        migrations.RemoveIndex(model_name="operation", name="aa_operation_actor"),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["kind", "-started_at", "-id"], name="aa_operation_kind"),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["status", "-started_at", "-id"], name="aa_operation_status"),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(
                fields=["channel", "-started_at", "-id"], name="aa_operation_channel"
            ),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["actor", "-started_at", "-id"], name="aa_operation_actor"),
        ),
    ]
