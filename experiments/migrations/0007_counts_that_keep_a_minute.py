from django.db import migrations, models


class Migration(migrations.Migration):
    """What each look reads, without what none did: the histograms of all units, added up.

    Their column stays for a worker of the version before, which fills it; it may go in the next one.
    """

    dependencies = [("experiments", "0006_value_before_the_experiment")]

    operations = [
        migrations.AddIndex(
            "exposure",
            models.Index(
                condition=models.Q(("integrity_at__isnull", False)), fields=["phase"], name="exposure_not_genuine"
            ),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE experiments_metricrollup ALTER COLUMN histogram SET DEFAULT '{}'",
                    "ALTER TABLE experiments_metricrollup ALTER COLUMN histogram DROP DEFAULT",
                )
            ],
            state_operations=[migrations.RemoveField("metricrollup", "histogram")],
        ),
    ]
