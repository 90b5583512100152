"""Addresses of REST for what devices get."""

from django.urls import path

from distribution.api import channels, explain, patches, protection, trust, views

APPLICATION = "applications/<slug:application>"
CHANNEL = f"{APPLICATION}/channels/<slug:channel>"
urlpatterns = [
    path(f"{CHANNEL}/releases", views.ReleasesView.as_view()),
    path(f"{CHANNEL}/releases/<int:release>", views.ReleaseView.as_view()),
    path(f"{CHANNEL}/promote", channels.PromoteView.as_view()),
    path(f"{CHANNEL}/settings", channels.ChannelSettingsView.as_view()),
    path(f"{CHANNEL}/release-requests", channels.ReleaseRequestsView.as_view()),
    path(f"{CHANNEL}/release-requests/<int:release_request>", channels.ReleaseRequestView.as_view()),
    path(f"{CHANNEL}/release-requests/<int:release_request>/approve", channels.ApproveView.as_view()),
    path(f"{CHANNEL}/models/<slug:model>/floors", channels.FloorsView.as_view()),
    path(f"{CHANNEL}/models/<slug:model>/pins", channels.PinsView.as_view()),
    path(f"{CHANNEL}/models/<slug:model>/pins/<int:pin>", channels.PinView.as_view()),
    path(f"{CHANNEL}/test-devices", channels.TestDevicesView.as_view()),
    path(f"{CHANNEL}/test-devices/<int:test_device>", channels.TestDeviceView.as_view()),
    path("enrolments", channels.EnrolmentsView.as_view()),
    path(f"{CHANNEL}/rollback", views.RollbackView.as_view()),
    path(f"{CHANNEL}/kill-switches", views.KillSwitchesView.as_view()),
    path(f"{CHANNEL}/kill-switches/<slug:model>", views.KillSwitchView.as_view()),
    path(f"{CHANNEL}/models/<slug:model>/explain", explain.ExplainView.as_view()),
    path(f"{APPLICATION}/attestation", protection.AttestationView.as_view()),
    path(f"{APPLICATION}/content-keys", protection.ContentKeysView.as_view()),
    path(f"{APPLICATION}/content-keys/<slug:content_key>/revoke", protection.RevokeKeyView.as_view()),
    path(f"{APPLICATION}/key-calls", protection.KeyCallsView.as_view()),
    path(f"{APPLICATION}/models/<slug:model>/protection", protection.ProtectionView.as_view()),
    path(f"{APPLICATION}/embedded-models", patches.EmbeddedModelsView.as_view()),
    path(f"{APPLICATION}/patches", patches.PatchesView.as_view()),
    path(f"{APPLICATION}/revisions", views.RevisionsView.as_view()),
    path(f"{APPLICATION}/revisions/<int:revision>", views.RevisionView.as_view()),
    path(f"{APPLICATION}/trust/root", trust.RootView.as_view()),
    path(f"{APPLICATION}/trust/targets", trust.TargetsView.as_view()),
    path(f"{APPLICATION}/trust/keys", trust.KeysView.as_view()),
    path(f"{APPLICATION}/trust/status", trust.StatusView.as_view()),
    path(f"{APPLICATION}/models/<slug:model>/minimum-release-counter", trust.MinimumView.as_view()),
    path(f"{CHANNEL}/embedded/<slug:model>", trust.EmbeddedView.as_view()),
]
