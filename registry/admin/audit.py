from django.contrib import admin

from registry.admin.shared import ShownAdmin
from registry.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ShownAdmin):
    list_display = ["at", "actor", "verb", "subject", "application", "reason"]
    list_filter = ["verb", "application"]
    search_fields = ["subject", "actor", "reason"]
