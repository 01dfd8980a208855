"""A run on systems of several teams is seen by who sees all of them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('testing', '0002_schedules_and_shares'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='teams',
            field=models.ManyToManyField(related_name='+', to='auth.group'),
        ),
    ]
