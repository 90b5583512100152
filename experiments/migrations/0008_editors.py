from django.db import migrations, models
from django.db.models.expressions import Value


class Migration(migrations.Migration):
    """Whoever edited a design may not approve it, whoever edits it after them."""

    dependencies = [("experiments", "0007_counts_that_keep_a_minute")]

    operations = [
        migrations.AddField(
            model_name="experiment",
            name="editors",
            field=models.JSONField(blank=True, db_default=Value([], models.JSONField()), default=list),
        ),
    ]
