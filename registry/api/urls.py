from django.urls import path

from registry.api import views

MODEL = "applications/<str:application>/models/<str:model>"
urlpatterns = [
    path("applications", views.ApplicationsView.as_view()),
    path("applications/<str:application>/channels", views.ChannelsView.as_view()),
    path("applications/<str:application>/uploads", views.UploadsView.as_view()),
    path("applications/<str:application>/models", views.ModelsView.as_view()),
    path(f"{MODEL}/versions", views.VersionsView.as_view()),
    path(f"{MODEL}/versions/<int:number>", views.VersionView.as_view()),
    path(f"{MODEL}/versions/<int:number>/variants", views.VariantsView.as_view()),
    path(f"{MODEL}/versions/<int:number>/yank", views.YankView.as_view()),
]
