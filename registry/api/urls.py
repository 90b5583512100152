"""Addresses of REST for what exists."""

from django.urls import path, register_converter

from registry.api.views import applications, audit, conversions, device_classes, gates, models, tokens, webhooks


class UserNameConverter:
    """What Django allows as a user name."""

    regex = r"[\w.@+-]{1,150}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(UserNameConverter, "username")

APPLICATION = "applications/<slug:application>"
MODEL = f"{APPLICATION}/models/<slug:model>"
VERSION = f"{MODEL}/versions/<int:number>"
JOB = f"{VERSION}/jobs/<slug:recipe>"
WEBHOOK = f"{APPLICATION}/webhooks/<slug:webhook>"
VARIANT = f"{VERSION}/variants/<slug:variant>"
urlpatterns = [
    path("applications", applications.ApplicationsView.as_view()),
    path(APPLICATION, applications.ApplicationView.as_view()),
    path(f"{APPLICATION}/audit-log", audit.AuditLogView.as_view()),
    path(f"{APPLICATION}/channels", applications.ChannelsView.as_view()),
    path(f"{APPLICATION}/channels/<slug:channel>", applications.ChannelView.as_view()),
    path(f"{APPLICATION}/device-class-match", device_classes.DeviceClassMatchView.as_view()),
    path(f"{APPLICATION}/device-classes", device_classes.DeviceClassesView.as_view()),
    path(f"{APPLICATION}/device-classes/<slug:device_class>", device_classes.DeviceClassView.as_view()),
    path(f"{APPLICATION}/jobs", models.JobsView.as_view()),
    path(f"{APPLICATION}/memberships", applications.MembershipsView.as_view()),
    path(f"{APPLICATION}/memberships/<username:user>", applications.MembershipView.as_view()),
    path(f"{APPLICATION}/uploads", models.UploadsView.as_view()),
    path(f"{APPLICATION}/uploads/<int:upload>", models.UploadView.as_view()),
    path(f"{APPLICATION}/models", models.ModelsView.as_view()),
    path(MODEL, models.ModelView.as_view()),
    path(f"{MODEL}/gates", gates.GatesView.as_view()),
    path(f"{MODEL}/profiles", gates.ProfilesView.as_view()),
    path(f"{MODEL}/profiles/<slug:profile>", gates.ProfileView.as_view()),
    path(f"{MODEL}/versions", models.VersionsView.as_view()),
    path(VERSION, models.VersionView.as_view()),
    path(f"{VERSION}/cancel", conversions.VersionCancelView.as_view()),
    path(f"{VERSION}/compare/<int:other>", conversions.CompareView.as_view()),
    path(f"{VERSION}/jobs", models.VersionJobsView.as_view()),
    path(JOB, models.VersionJobView.as_view()),
    path(f"{JOB}/cancel", conversions.JobCancelView.as_view()),
    path(f"{JOB}/priority", conversions.JobPriorityView.as_view()),
    path(f"{JOB}/retry", conversions.JobRetryView.as_view()),
    path(f"{VERSION}/matrix", conversions.MatrixView.as_view()),
    path(f"{VERSION}/rebuild", conversions.RebuildView.as_view()),
    path(f"{VERSION}/variants", models.VariantsView.as_view()),
    path(VARIANT, models.VariantView.as_view()),
    path(f"{VARIANT}/benchmarks", gates.BenchmarksView.as_view()),
    path(f"{VARIANT}/override", gates.OverrideView.as_view()),
    path(f"{VARIANT}/reproductions", gates.ReproductionsView.as_view()),
    path(f"{VARIANT}/reproductions/<int:reproduction>", gates.ReproductionView.as_view()),
    path(f"{VERSION}/yank", models.YankView.as_view()),
    path(f"{APPLICATION}/webhooks", webhooks.WebhooksView.as_view()),
    path(WEBHOOK, webhooks.WebhookView.as_view()),
    path(f"{WEBHOOK}/deliveries", webhooks.DeliveriesView.as_view()),
    path(f"{WEBHOOK}/deliveries/<int:delivery>", webhooks.DeliveryView.as_view()),
    path(f"{WEBHOOK}/deliveries/<int:delivery>/redeliver", webhooks.RedeliverView.as_view()),
    path(f"{WEBHOOK}/disable", webhooks.DisableWebhookView.as_view()),
    path(f"{WEBHOOK}/rotate-secret", webhooks.RotateSecretView.as_view()),
    path(f"{WEBHOOK}/test", webhooks.TestView.as_view()),
    path("audit-log", audit.WholeAuditLogView.as_view()),
    path("tokens", tokens.TokensView.as_view()),
    path("tokens/<int:token>", tokens.TokenView.as_view()),
]
