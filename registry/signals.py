"""What the apps above must hear of at once, and the registry may not import."""

from django.dispatch import Signal

# Sent in the transaction that yanks, before its line in the audit log: `version`, `actor`, `now`, `reason`.
version_yanked = Signal()
