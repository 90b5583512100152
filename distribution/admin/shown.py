"""Revisions and signed documents, which people only read."""

from django.contrib import admin

from distribution.models import Revision, SignedDocument
from registry.admin.shared import MemberAdmin


@admin.register(Revision)
class RevisionAdmin(MemberAdmin):
    list_display = ["number", "application", "reason", "prepared_at", "published_at"]
    list_filter = ["application"]
    ordering = ["-prepared_at"]
    empty_words = ("No revision yet", "A revision is one state of the signed tree; the signer makes the first one.")


@admin.register(SignedDocument)
class SignedDocumentAdmin(MemberAdmin):
    list_display = ["path", "application", "role", "version", "expires_at"]
    list_filter = ["application", "role"]
    search_fields = ["path"]
    empty_words = ("Nothing signed yet", "Metadata, catalogs and manifests are listed here once they are signed.")
