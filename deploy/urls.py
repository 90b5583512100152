"""All that the control plane answers: the admin, REST, and Firebase's admin API."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from deploy import health, metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", health.healthz),
    path("metrics", metrics.metrics),
    path("admin/", admin.site.urls),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("experiments.api.urls")),
    path("api/v1/", include("distribution.api.urls")),
    path("", include("distribution.firebase.urls")),
    path("api/v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
]
handler404 = "deploy.problems.not_found"
handler400 = "deploy.problems.bad_request"
handler500 = "deploy.problems.server_error"
