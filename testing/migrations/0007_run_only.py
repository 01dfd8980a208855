"""A run of some cases says which were asked for."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('testing', '0006_history'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='only',
            field=models.JSONField(db_default=[], default=list),
        ),
    ]
