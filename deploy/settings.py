"""All settings of the control plane, flat. Each value that a deployment may change is one typed environment variable.

Documented in docs/operations.md; tests/test_docs.py fails when one is missing there.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from deploy import env
from deploy.admin_navigation import NAVIGATION

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.folder("AEROGRAM_VAR_DIR", BASE_DIR / "var")

# Core ----------------------------------------------------------------------------------------------------------------
DEBUG = env.flag("AEROGRAM_DEBUG", default=False)
SECRET_KEY = env.text("AEROGRAM_SECRET_KEY")
# Former ones, while what they signed and sealed is still about.
SECRET_KEY_FALLBACKS = env.items("AEROGRAM_SECRET_KEY_FALLBACKS", [])
ALLOWED_HOSTS = env.items("AEROGRAM_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.items("AEROGRAM_TRUSTED_ORIGINS", [])
ROOT_URLCONF = "deploy.urls"
WSGI_APPLICATION = "deploy.wsgi.application"
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "deploy.apps.AerogramAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "registry",
    "experiments",
    "distribution",
    "deploy.apps.DeployConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
# Served from the packages themselves: no collectstatic step, no second server.
WHITENOISE_USE_FINDERS = True
USE_TZ = True
FORMAT_MODULE_PATH = ["deploy.formats"]
TIME_ZONE = "UTC"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Transport security --------------------------------------------------------------------------------------------------
# All of it follows from a public address of https://; each part can be told otherwise.
AEROGRAM_WEB_URL = env.url("AEROGRAM_WEB_URL", "http://127.0.0.1:8000", schemes=["http", "https"])
_https = AEROGRAM_WEB_URL.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.flag("AEROGRAM_SECURE_COOKIES", default=_https)
SECURE_SSL_REDIRECT = env.flag("AEROGRAM_SSL_REDIRECT", default=_https)
SECURE_REDIRECT_EXEMPT = ["^healthz$"]  # asked by a neighbour, without TLS
SECURE_HSTS_SECONDS = env.seconds("AEROGRAM_HSTS_SECONDS", 365 * 86_400 if _https else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("AEROGRAM_HSTS_SUBDOMAINS", default=SECURE_HSTS_SECONDS > 0)
SECURE_HSTS_PRELOAD = env.flag("AEROGRAM_HSTS_PRELOAD", default=False)
# Preloading binds a whole domain, for years: its owner's decision, and none that a check should urge.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
if env.flag("AEROGRAM_BEHIND_PROXY", default=False):
    # Only behind a proxy that sets this header itself; otherwise anybody could claim to have come by https.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Parts ---------------------------------------------------------------------------------------------------------------
_database = env.url("DATABASE_URL", schemes=["postgresql", "postgres"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.removeprefix("/"),
        "USER": _database.username,
        "PASSWORD": _database.password,
        "HOST": _database.query.get("host", _database.host),
        "PORT": _database.query.get("port", _database.port or ""),
        "CONN_MAX_AGE": 60,
        # A connection that died with its server is noticed before it is used again.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5},
    }
}
BLOB_STORE_URL = env.url("BLOB_STORE_URL", (VAR_DIR / "blobs").as_uri(), schemes=["file", "s3"])
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "blobs": (
        {"BACKEND": "registry.blob_store.s3.S3BlobStorage", "OPTIONS": {"url": str(BLOB_STORE_URL)}}
        if BLOB_STORE_URL.scheme == "s3"
        else {"BACKEND": "registry.blob_store.LocalBlobStorage", "OPTIONS": {"location": BLOB_STORE_URL.path}}
    ),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
EVENT_STREAM_URL = env.url("EVENT_STREAM_URL", "redis://127.0.0.1:6380/0", schemes=["redis", "rediss", "unix"])

# Queue ---------------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = str(env.url("REDIS_URL", "redis://127.0.0.1:6379/0", schemes=["redis", "rediss"]))
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# Longer than the longest work of one message, or what still runs would be delivered again: a reproduction runs two
# traces and both processes of a recipe, and copies files between them.
AEROGRAM_TRACE_TIMEOUT_SECONDS = env.seconds("AEROGRAM_TRACE_TIMEOUT_SECONDS", 600, minimum=10, maximum=3000)
AEROGRAM_RECIPE_TIMEOUT_SECONDS = env.seconds("AEROGRAM_RECIPE_TIMEOUT_SECONDS", 300, minimum=10, maximum=3000)
LONGEST_TASK_SECONDS = 2 * AEROGRAM_TRACE_TIMEOUT_SECONDS + 2 * AEROGRAM_RECIPE_TIMEOUT_SECONDS + 600
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": max(3600, LONGEST_TASK_SECONDS),
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    # A request that finds the broker away must not wait for it: rows and beat take over (registry/tasks.py).
    "max_retries": 0,
}
CELERY_TASK_ROUTES = {"distribution.tasks.*": {"queue": "publish"}}
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "sweep-lost-jobs": {"task": "registry.tasks.sweep_lost_jobs", "schedule": timedelta(seconds=10)},
    "deliver-due-webhooks": {"task": "registry.tasks.deliver_due_webhooks", "schedule": timedelta(seconds=10)},
    "forget-webhook-deliveries": {"task": "registry.tasks.forget_webhook_deliveries", "schedule": timedelta(hours=6)},
    "sweep-blob-store": {"task": "registry.tasks.sweep_blob_store", "schedule": timedelta(hours=6)},
    "publish-pending": {"task": "distribution.tasks.publish_pending", "schedule": timedelta(seconds=5)},
    "perform-due-requests": {"task": "distribution.tasks.perform_due_requests", "schedule": timedelta(seconds=10)},
    "look-at-experiments": {"task": "experiments.tasks.look_at_experiments", "schedule": timedelta(minutes=1)},
    "keep-event-tables": {"task": "experiments.tasks.keep_event_tables", "schedule": timedelta(hours=1)},
    "perform-due-experiments": {
        "task": "experiments.tasks.perform_due_experiments",
        "schedule": timedelta(seconds=10),
    },
    "renew-online-roles": {"task": "distribution.tasks.renew_online_roles", "schedule": timedelta(hours=1)},
    "settle-firebase-models": {
        "task": "distribution.tasks.settle_firebase_models",
        "schedule": timedelta(seconds=5),
    },
    "forget-key-calls": {"task": "distribution.tasks.forget_key_calls", "schedule": timedelta(days=1)},
    "encrypt-pending": {"task": "distribution.tasks.encrypt_pending", "schedule": timedelta(seconds=30)},
    "renew-patches": {"task": "distribution.tasks.renew_patches", "schedule": timedelta(minutes=30)},
}
# Workers that were away for a night find the latest message of each, not thousands that all ask for the same. A minute
# more than the next one takes, for clocks that differ.
for _entry in CELERY_BEAT_SCHEDULE.values():
    _entry["options"] = {"expires": _entry["schedule"].total_seconds() + 60}

# Aerogram ------------------------------------------------------------------------------------------------------------
AEROGRAM_WORKSPACE_DIR = env.folder("AEROGRAM_WORKSPACE_DIR", VAR_DIR / "workspaces")
AEROGRAM_MAX_UPLOAD_BYTES = env.integer("AEROGRAM_MAX_UPLOAD_BYTES", 4 << 30, minimum=1 << 20)
AEROGRAM_TRACE_MEMORY_MIB = env.integer("AEROGRAM_TRACE_MEMORY_MIB", 4096, minimum=1024)
AEROGRAM_RECIPE_MEMORY_MIB = env.integer("AEROGRAM_RECIPE_MEMORY_MIB", 2048, minimum=256)
# Whom root turns into before a model is loaded; an ordinary user's workers stay what they are.
AEROGRAM_CONVERSION_USER = env.text("AEROGRAM_CONVERSION_USER", "nobody")
# A worker that runs a job says so every second; one that is silent for so long has lost it.
AEROGRAM_JOB_SILENCE_SECONDS = env.seconds("AEROGRAM_JOB_SILENCE_SECONDS", 30, minimum=5, maximum=3600)
# A queued job that nobody took for so long may have lost its message.
AEROGRAM_JOB_REQUEUE_SECONDS = env.seconds("AEROGRAM_JOB_REQUEUE_SECONDS", 60, minimum=5, maximum=3600)
# Of the process that makes one patch. The memory also caps the files it is made for: a sixteenth of it each.
AEROGRAM_PATCH_MEMORY_MIB = env.integer("AEROGRAM_PATCH_MEMORY_MIB", 2048, minimum=512)
AEROGRAM_PATCH_TIMEOUT_SECONDS = env.seconds("AEROGRAM_PATCH_TIMEOUT_SECONDS", 600, minimum=10, maximum=3000)
AEROGRAM_ONLINE_KEYS_DIR = env.folder("AEROGRAM_ONLINE_KEYS_DIR", VAR_DIR / "keys" / "online")
# Set for the signer process alone. Empty elsewhere: what cannot be read cannot be stolen.
AEROGRAM_PUBLISHER_KEYS_DIR = env.text("AEROGRAM_PUBLISHER_KEYS_DIR", "")
# Who signs for a role where it is not a key in one of the folders: `application/role=uri`, separated by commas.
AEROGRAM_SIGNERS = env.items("AEROGRAM_SIGNERS", [])
# They wrap the keys of protected models. A file wins; the first key wraps, the others only unwrap.
AEROGRAM_KEY_ENCRYPTION_KEYS = env.items("AEROGRAM_KEY_ENCRYPTION_KEYS", [])
AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = env.text("AEROGRAM_KEY_ENCRYPTION_KEYS_FILE", "")
# Of one installation, whatever became of them.
AEROGRAM_KEY_CALLS_PER_HOUR = env.integer("AEROGRAM_KEY_CALLS_PER_HOUR", 30, minimum=1, maximum=10_000)
AEROGRAM_DEVICE_URL = env.url("AEROGRAM_DEVICE_URL", "http://127.0.0.1:8001", schemes=["http", "https"])
# The device plane reads the same variable.
AEROGRAM_FIREBASE_CHANNEL = env.text("AEROGRAM_FIREBASE_CHANNEL", "production")
# What devices reported is dropped by whole months once the last day of the month is so old.
AEROGRAM_EVENT_RETENTION = timedelta(days=env.integer("AEROGRAM_EVENT_RETENTION_DAYS", 90, minimum=36))
AEROGRAM_POLL_AFTER_SECONDS = env.seconds("AEROGRAM_POLL_AFTER_SECONDS", 14400, minimum=60, maximum=86400)

# Off: a webhook must not reach what only this network reaches.
AEROGRAM_WEBHOOKS_TO_PRIVATE_ADDRESSES = env.flag("AEROGRAM_WEBHOOKS_TO_PRIVATE_ADDRESSES", default=False)

# REST ----------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["registry.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["registry.api.parsing.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "registry.api.schema.VerbSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "deploy.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Aerogram",
    "DESCRIPTION": "Model registry and over-the-air distribution: what people and scripts may ask of it.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    # The document says nothing that the source code does not.
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    # From this server, not from somebody else's.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "registry.api.serializers.ROLE_CHOICES",
        "JobStateEnum": "registry.models.JobState",
        "ReleaseStateEnum": "distribution.models.Release.State",
        "ExperimentStateEnum": "experiments.api.serializers.STATES",
        "VerdictEnum": "experiments.api.serializers.VERDICTS",
        "DeliveryStateEnum": "registry.models.WebhookDelivery.State",
    },
}

# Admin ---------------------------------------------------------------------------------------------------------------
LOGIN_REDIRECT_URL = "admin:index"
UNFOLD = {
    "SITE_TITLE": "Aerogram",
    "SITE_HEADER": "Aerogram",
    "SITE_SUBHEADER": "models on devices",
    "SITE_SYMBOL": "rocket_launch",
    "SITE_URL": None,
    "SHOW_HISTORY": False,  # the audit log tells more, and of scripts too
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/registry/icon.svg"}],
    "STYLES": ["/static/registry/aerogram.css", "/static/experiments/acting.css"],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .214 259.8)",
            "600": "oklch(54.6% .245 262.9)",
            "700": "oklch(48.8% .243 264.4)",
            "800": "oklch(42.4% .199 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        }
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": NAVIGATION,
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("AEROGRAM_LOG_LEVEL", "INFO")},
}
