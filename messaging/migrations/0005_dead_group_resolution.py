
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('endpoints', '0002_incidents_and_maintenance'),
        ('messaging', '0004_measurement'),
    ]

    operations = [
        migrations.AddField(
            model_name='deadgroup',
            name='resolved_at',
            field=models.DateTimeField(help_text='When all there were had been resolved, the last time.', null=True),
        ),
        migrations.AddField(
            model_name='deadgroup',
            name='resolved_by',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('group__isnull', True), ('resolved_at__isnull', True), ('state', 'dead')), fields=['message'], name='delivery_ungrouped'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('resolved_at__isnull', False)), fields=['message'], name='delivery_by_resolved'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('resolved_at__isnull', False)), fields=['resolved_at', 'message'], name='delivery_resolved'),
        ),
    ]
