from django.urls import path

from distribution.api import views

APPLICATION = "applications/<slug:application>"
CHANNEL = f"{APPLICATION}/channels/<slug:channel>"
urlpatterns = [
    path(f"{CHANNEL}/releases", views.ReleasesView.as_view()),
    path(f"{CHANNEL}/releases/<int:release>", views.ReleaseView.as_view()),
    path(f"{CHANNEL}/rollback", views.RollbackView.as_view()),
    path(f"{CHANNEL}/kill-switches", views.KillSwitchesView.as_view()),
    path(f"{CHANNEL}/kill-switches/<slug:model>", views.KillSwitchView.as_view()),
    path(f"{APPLICATION}/revisions", views.RevisionsView.as_view()),
    path(f"{APPLICATION}/revisions/<int:revision>", views.RevisionView.as_view()),
    path(f"{APPLICATION}/trust/root", views.RootView.as_view()),
]
