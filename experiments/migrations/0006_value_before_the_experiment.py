from django.db import migrations, models


class Migration(migrations.Migration):
    """All with defaults in the database, for an ingester and a worker that do not know them."""

    dependencies = [("experiments", "0005_channel_of_an_event")]

    operations = [
        migrations.AddField("exposure", "before_log_p95", models.FloatField(null=True)),
        migrations.AddField("exposure", "is_before_sought", models.BooleanField(db_default=False, default=False)),
        *(
            migrations.AddField("metricrollup", name, models.FloatField(db_default=0, default=0))
            for name in ("paired_total", "paired_squares", "before_total", "before_squares", "products")
        ),
        migrations.AddField("metricrollup", "paired_units", models.PositiveIntegerField(db_default=0, default=0)),
        migrations.AddIndex(
            "exposure",
            models.Index(
                condition=models.Q(("is_before_sought", False)), fields=["phase"], name="exposure_before_unsought"
            ),
        ),
    ]
