from django.urls import path

from distribution.api import views

CHANNEL = "applications/<str:application>/channels/<str:channel>"
urlpatterns = [
    path(f"{CHANNEL}/releases", views.ReleasesView.as_view()),
    path(f"{CHANNEL}/releases/<int:release>", views.ReleaseView.as_view()),
    path(f"{CHANNEL}/rollback", views.RollbackView.as_view()),
    path(f"{CHANNEL}/kill-switches/<str:model>", views.KillSwitchView.as_view()),
    path("applications/<str:application>/revisions", views.RevisionsView.as_view()),
    path("applications/<str:application>/trust/root", views.RootView.as_view()),
]
