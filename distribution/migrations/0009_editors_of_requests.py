from django.db import migrations, models
from django.db.models.expressions import Value


class Migration(migrations.Migration):
    """Whoever edited a request may not approve it, whoever edits it after them."""

    dependencies = [("distribution", "0008_releases_of_arms")]

    operations = [
        migrations.AddField(
            model_name="releaserequest",
            name="editors",
            field=models.JSONField(blank=True, db_default=Value([], models.JSONField()), default=list),
        ),
    ]
