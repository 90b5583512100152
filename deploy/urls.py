from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from deploy import health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", health.healthz),
    path("admin/", admin.site.urls),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("distribution.api.urls")),
]
handler404 = "deploy.problems.not_found"
