"""Schedules and runs know who they act for, to ask again what they may do."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('testing', '0009_run_teams'),
    ]

    operations = [
        migrations.AddField(
            model_name='schedule',
            name='author',
            field=models.CharField(blank=True, db_default='', default='', max_length=60),
        ),
        migrations.AddField(
            model_name='run',
            name='author',
            field=models.CharField(blank=True, db_default='', default='', max_length=60),
        ),
    ]
