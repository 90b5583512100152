from django.contrib import admin

from registry.admin.shared import ShownAdmin, ShownInline
from registry.models import ConversionJob, ModelVersion, RegisteredModel, Variant


class ModelVersionInline(ShownInline):
    model = ModelVersion
    fields = ["number", "source_file_name", "registered_by", "registered_at", "yanked_at"]
    show_change_link = True


@admin.register(RegisteredModel)
class RegisteredModelAdmin(ShownAdmin):
    list_display = ["slug", "application", "created_at"]
    list_filter = ["application"]
    fields = ["application", "slug", "name", "created_at"]
    inlines = [ModelVersionInline]


class VariantInline(ShownInline):
    model = Variant
    fields = ["name", "size", "accuracy", "parity", "host_latency"]
    readonly_fields = fields

    @admin.display(description="bytes")
    def size(self, variant: Variant) -> str:
        return f"{variant.size_bytes:,}"

    @admin.display
    def accuracy(self, variant: Variant) -> str:
        measured = variant.report.get("accuracy")
        return f"{measured['value']:.4f} (source {measured['source_value']:.4f})" if measured else "not measured"

    @admin.display(description="parity: greatest error")
    def parity(self, variant: Variant) -> str:
        measured = variant.report.get("parity")
        return f"{measured['max_abs_error']:.2g}" if measured else "–"

    @admin.display(description="latency (x86, relative)")
    def host_latency(self, variant: Variant) -> str:
        measured = variant.report.get("latency_host")
        return f"{measured['p50_us']:,.0f} µs" if measured else "–"


class ConversionJobInline(ShownInline):
    model = ConversionJob
    fields = ["recipe", "state", "attempts", "started_at", "finished_at", "why"]
    readonly_fields = fields

    @admin.display
    def why(self, job: ConversionJob) -> str:
        return str((job.report.get("error") or {}).get("detail", ""))


@admin.register(ModelVersion)
class ModelVersionAdmin(ShownAdmin):
    list_display = ["__str__", "source_format", "registered_by", "registered_at", "yanked_at"]
    list_filter = ["model__application", "model"]
    fields = ["model", "number", "source_file_name", "source_format", "source", "evaluation_set", "labels", "notes"]
    inlines = [VariantInline, ConversionJobInline]
