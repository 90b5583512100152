from django.urls import path

from distribution.api import explain, patches, trust, views

APPLICATION = "applications/<slug:application>"
CHANNEL = f"{APPLICATION}/channels/<slug:channel>"
urlpatterns = [
    path(f"{CHANNEL}/releases", views.ReleasesView.as_view()),
    path(f"{CHANNEL}/releases/<int:release>", views.ReleaseView.as_view()),
    path(f"{CHANNEL}/rollback", views.RollbackView.as_view()),
    path(f"{CHANNEL}/kill-switches", views.KillSwitchesView.as_view()),
    path(f"{CHANNEL}/kill-switches/<slug:model>", views.KillSwitchView.as_view()),
    path(f"{CHANNEL}/models/<slug:model>/explain", explain.ExplainView.as_view()),
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
