import django.db.models.deletion
from django.db import migrations, models

UNCHANGED = (
    "CREATE TRIGGER refuse_change BEFORE UPDATE ON experiments_analysisrun "
    "FOR EACH ROW EXECUTE FUNCTION registry_refuse_change()"
)


class Migration(migrations.Migration):
    dependencies = [("experiments", "0003_partitioned_events")]

    operations = [
        migrations.CreateModel(
            name="AnalysisRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("as_of", models.DateTimeField()),
                ("inputs_hash", models.CharField(blank=True, max_length=64)),
                ("verdict", models.CharField(max_length=20)),
                ("reasons", models.JSONField(default=list)),
                ("classes", models.JSONField(default=list)),
                ("units", models.PositiveIntegerField(default=0)),
                ("results", models.JSONField(default=dict)),
                ("error", models.TextField(blank=True)),
                (
                    "experiment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="analyses",
                        to="experiments.experiment",
                    ),
                ),
                (
                    "phase",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="analyses", to="experiments.phase"
                    ),
                ),
            ],
            options={
                "ordering": ["-as_of", "-id"],
                "indexes": [models.Index(fields=["experiment", "as_of"], name="analysis_by_experiment")],
            },
        ),
        migrations.RunSQL(UNCHANGED, "DROP TRIGGER refuse_change ON experiments_analysisrun"),
    ]
