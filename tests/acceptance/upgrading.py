"""Change the schema as the next version's migrations would: `python -m tests.acceptance.upgrading`.

A new column and a new index on each of the two tables everything goes through, by Django's own
migrations, in the transactions that `migrate` would use.
"""

import os


def main() -> None:
    """Apply made-up migrations to the database of DATABASE_URL."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    import django

    django.setup()
    from django.db import connection, migrations, models
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    state = executor.loader.project_state()
    for model in ("delivery", "message"):  # one each: to hold the locks of both would be asking for a deadlock
        migration = migrations.Migration(f"9999_remark_of_{model}", "messaging")
        migration.operations = [
            migrations.AddField(model, "remark", models.TextField(null=True)),
            migrations.AddIndex(model, models.Index(fields=["remark"], name=f"{model}_remark")),
        ]
        state = executor.apply_migration(state, migration)


if __name__ == "__main__":
    main()
