"""All that the key service answers."""

from django.urls import include, path

from deploy import health

urlpatterns = [path("healthz", health.alive), path("", include("distribution.protection.urls"))]
handler404 = "deploy.problems.not_found"
handler400 = "deploy.problems.bad_request"
handler500 = "deploy.problems.server_error"
