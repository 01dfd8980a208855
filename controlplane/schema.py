"""Whether code and database fit together."""

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

OURS = ("endpoints", "messaging", "testing")


def newer_than_code() -> list[str]:
    """Return the migrations of ours that the database has and this code does not know."""
    loader = MigrationExecutor(connection).loader
    unknown = set(loader.applied_migrations) - set(loader.disk_migrations)
    return sorted(f"{app}.{name}" for app, name in unknown if app in OURS)


def pending() -> list[str]:
    """Return the migrations this code has and the database has not seen."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
