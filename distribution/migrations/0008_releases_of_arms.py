from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("distribution", "0007_protection")]

    operations = [
        migrations.AlterField(
            model_name="release",
            name="state",
            field=models.CharField(
                choices=[("waiting", "Waiting"), ("live", "Live"), ("superseded", "Superseded"), ("arm", "Arm")],
                default="waiting",
                max_length=20,
            ),
        ),
    ]
