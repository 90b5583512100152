"""Addresses of the key service."""

from django.urls import path

from distribution.protection import views

KEY = "v1/apps/<slug:application>/keys/<slug:key_id>"
urlpatterns = [
    path(KEY, views.KeyView.as_view()),
    path(f"{KEY}/challenges", views.ChallengesView.as_view()),
]
