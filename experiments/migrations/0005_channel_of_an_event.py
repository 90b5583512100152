from django.db import migrations, models


class Migration(migrations.Migration):
    """A constant default in the database: no row is written anew, and an ingester that knows no channel goes on."""

    dependencies = [("experiments", "0004_analysis_runs")]

    operations = [
        migrations.AddField(
            "deviceevent", "channel", models.CharField(blank=True, db_default="", default="", max_length=63)
        )
    ]
