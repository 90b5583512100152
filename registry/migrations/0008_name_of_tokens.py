from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0007_webhook_claims"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="apitoken",
            options={"verbose_name": "API token"},
        ),
    ]
