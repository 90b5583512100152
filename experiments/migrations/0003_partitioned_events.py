import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

# Beside the table that was there, which an ingester of the version before may go on filling: its rows are moved by the
# next ingester that starts (experiments.ingest.store.adopt_earlier_events). No id is a key here; experiments_seenevent
# remembers them. Monthly partitions are made by experiments.partitions; what has none goes to the default one.
EVENTS = """
CREATE TABLE experiments_event (
    event_id uuid NOT NULL,
    application varchar(63) NOT NULL,
    unit varchar(200) NOT NULL,
    received_at timestamptz NOT NULL,
    at timestamptz NOT NULL,
    stage varchar(20) NOT NULL,
    outcome varchar(20) NOT NULL,
    model varchar(63) NOT NULL,
    version integer,
    variant varchar(63) NOT NULL,
    duration_ms bigint,
    size_bytes bigint,
    error varchar(200) NOT NULL,
    histogram bigint[],
    profile jsonb NOT NULL,
    phase_id bigint,
    arm varchar(63) NOT NULL,
    device_class varchar(63) NOT NULL
) PARTITION BY RANGE (received_at);
CREATE INDEX event_of_model_by_time ON experiments_event (application, model, received_at);
CREATE INDEX event_by_unit ON experiments_event (unit);
CREATE TABLE experiments_event_other PARTITION OF experiments_event DEFAULT;
"""
# Rows come in the order of their time, so that a block range index finds the old ones for next to nothing.
SEEN_BY_TIME = "CREATE INDEX seen_event_by_time ON experiments_seenevent USING brin (received_at)"

ADD_COUNTS = """
CREATE FUNCTION experiments_add_counts(a bigint[], b bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY place), '{}')
    FROM unnest(a, b) WITH ORDINALITY AS both_of_them(x, y, place)
$$;
CREATE AGGREGATE experiments_sum_counts(bigint[]) (
    SFUNC = experiments_add_counts, STYPE = bigint[], INITCOND = '{}'
);
"""
# The same as experiments.statistics.latency.log_quantiles, in the statement that stores a device's histogram.
LOG_P95 = """
CREATE FUNCTION experiments_log_p95(counts bigint[]) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    total numeric;
    wanted double precision;
    before double precision := 0;
    step CONSTANT double precision := ln(2::double precision) / 3;
    low double precision;
    high double precision;
BEGIN
    SELECT sum(each) INTO total FROM unnest(counts) AS each;
    IF total IS NULL OR total < 20 THEN
        RETURN NULL;
    END IF;
    wanted := 0.95 * total;
    FOR place IN 1 .. array_length(counts, 1) LOOP
        IF counts[place] > 0 AND before + counts[place] >= wanted THEN
            low := CASE WHEN place = 1 THEN ln(64::double precision) - step
                ELSE ln(round(64 * power(2::double precision, (place - 2) / 3.0::double precision))) END;
            high := CASE WHEN place = 64 THEN low + step
                ELSE ln(round(64 * power(2::double precision, (place - 1) / 3.0::double precision))) END;
            RETURN low + (wanted - before) / counts[place] * (high - low);
        END IF;
        before := before + counts[place];
    END LOOP;
    RETURN NULL;
END
$$;
"""


def counts(*, big=False):
    field = models.BigIntegerField() if big else models.PositiveIntegerField()
    return django.contrib.postgres.fields.ArrayField(base_field=field, size=None)


class Migration(migrations.Migration):
    dependencies = [("experiments", "0002_experiments_and_layers")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(EVENTS, "DROP TABLE experiments_event")],
            state_operations=[
                migrations.RemoveIndex("deviceevent", "event_by_model_and_time"),
                migrations.AlterModelTable("deviceevent", "experiments_event"),
                migrations.AlterField(
                    "deviceevent",
                    "histogram",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveBigIntegerField(), null=True, size=None
                    ),
                ),
                migrations.AddField(
                    "deviceevent",
                    "phase",
                    models.ForeignKey(
                        null=True,
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="events",
                        to="experiments.phase",
                    ),
                ),
                migrations.AddField("deviceevent", "arm", models.CharField(blank=True, max_length=63, default="")),
                migrations.AlterField("deviceevent", "arm", models.CharField(blank=True, max_length=63)),
                migrations.AddField(
                    "deviceevent", "device_class", models.CharField(blank=True, max_length=63, default="")
                ),
                migrations.AlterField("deviceevent", "device_class", models.CharField(blank=True, max_length=63)),
                migrations.AddIndex(
                    "deviceevent",
                    models.Index(fields=["application", "model", "received_at"], name="event_of_model_by_time"),
                ),
                migrations.AddIndex("deviceevent", models.Index(fields=["unit"], name="event_by_unit")),
            ],
        ),
        migrations.RunSQL(ADD_COUNTS, "DROP FUNCTION experiments_add_counts CASCADE"),
        migrations.RunSQL(LOG_P95, "DROP FUNCTION experiments_log_p95"),
        migrations.CreateModel(
            name="SeenEvent",
            fields=[
                ("event_id", models.UUIDField(primary_key=True, serialize=False)),
                ("received_at", models.DateTimeField()),
            ],
        ),
        migrations.RunSQL(SEEN_BY_TIME, "DROP INDEX seen_event_by_time"),
        migrations.CreateModel(
            name="Exposure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("unit", models.CharField(max_length=200)),
                ("arm", models.CharField(max_length=63)),
                ("device_class", models.CharField(max_length=63)),
                ("os", models.CharField(blank=True, max_length=63)),
                ("app_version", models.CharField(blank=True, max_length=63)),
                ("day", models.DateField()),
                ("assigned_at", models.DateTimeField(null=True)),
                ("reached", models.SmallIntegerField(default=-1)),
                ("progressed_at", models.DateTimeField(null=True)),
                ("failed", models.SmallIntegerField(default=-1)),
                ("crashed_at", models.DateTimeField(null=True)),
                ("load_failed_at", models.DateTimeField(null=True)),
                ("fell_back_at", models.DateTimeField(null=True)),
                ("integrity_at", models.DateTimeField(null=True)),
                ("heard_at", models.DateTimeField()),
                (
                    "histogram",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("log_p95", models.FloatField(null=True)),
                (
                    "phase",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="exposures",
                        to="experiments.phase",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["unit"], name="exposure_by_unit")],
                "constraints": [
                    models.UniqueConstraint(fields=("phase", "unit"), name="exposure_once_per_phase_and_unit")
                ],
            },
        ),
        migrations.CreateModel(
            name="MetricRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("arm", models.CharField(max_length=63)),
                ("device_class", models.CharField(max_length=63)),
                ("day", models.DateField()),
                ("units", models.PositiveIntegerField(default=0)),
                ("reached", counts()),
                ("failed", counts()),
                ("lost", counts()),
                ("crashed", models.PositiveIntegerField(default=0)),
                ("load_failed", models.PositiveIntegerField(default=0)),
                ("fell_back", models.PositiveIntegerField(default=0)),
                ("integrity", models.PositiveIntegerField(default=0)),
                ("latency_units", models.PositiveIntegerField(default=0)),
                ("latency_total", models.FloatField(default=0)),
                ("latency_squares", models.FloatField(default=0)),
                ("slow", models.PositiveIntegerField(default=0)),
                (
                    "histogram",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("heard_at", models.DateTimeField(null=True)),
                (
                    "phase",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rollups",
                        to="experiments.phase",
                    ),
                ),
            ],
            options={
                "ordering": ["phase", "day", "arm", "device_class"],
                "constraints": [
                    models.UniqueConstraint(fields=("phase", "arm", "device_class", "day"), name="rollup_once_per_cell")
                ],
            },
        ),
    ]
