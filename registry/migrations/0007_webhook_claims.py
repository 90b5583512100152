from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0006_webhooks"),
    ]

    operations = [
        migrations.AddField(
            model_name="webhookdelivery",
            name="enqueued_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
