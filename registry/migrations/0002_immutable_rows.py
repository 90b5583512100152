"""Rows that never change, kept so by PostgreSQL: a bug or a hand in the shell is refused like anybody else."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION registry_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The arguments name the columns that may still change.
    IF TG_OP = 'UPDATE' AND (to_jsonb(NEW) - TG_ARGV) = (to_jsonb(OLD) - TG_ARGV) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% refused: a row of % does not change', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
"""
UPDATES = {
    "registry_artifact": "",
    "registry_variant": "",
    "registry_variantfile": "",
    "registry_modelversion": "'yanked_at', 'yank_reason'",
}


def trigger(table, events, columns):
    return migrations.RunSQL(
        f"CREATE TRIGGER refuse_change BEFORE {events} ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION registry_refuse_change({columns})",
        f"DROP TRIGGER refuse_change ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION registry_refuse_change()"),
        *(trigger(table, "UPDATE", columns) for table, columns in UPDATES.items()),
        trigger("registry_auditentry", "UPDATE OR DELETE", ""),
    ]
