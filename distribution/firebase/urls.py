"""Addresses of Firebase ML's admin API and of the storage API that its uploads use."""

from django.urls import path

from distribution.firebase import storage_views, views

MODELS = "v1beta2/projects/<slug:application>/models"
BUCKET = "storage/v1/b/<str:bucket>"
urlpatterns = [
    path(MODELS, views.ModelsView.as_view()),
    path(f"{MODELS}/<str:model>", views.ModelView.as_view()),
    path("v1beta2/projects/<slug:application>/operations/<int:operation>", views.OperationView.as_view()),
    path(BUCKET, storage_views.BucketView.as_view()),
    path(f"{BUCKET}/o/<path:name>", storage_views.ObjectView.as_view()),
    path(f"upload/{BUCKET}/o", storage_views.UploadsView.as_view()),
]
