"""Django's settings, made from the typed environment in `controlplane.env`; nothing here reads os.environ."""

import sys
from pathlib import Path

from controlplane import logs
from controlplane.env_problems import BadEnvironment
from controlplane.safety import load

BASE_DIR = Path(__file__).resolve().parent.parent
try:
    ENV = load()
except BadEnvironment as error:
    # A settings mistake is the operator's to read, not a developer's to debug: no traceback.
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None

DEBUG = ENV.debug
ENVIRONMENT = ENV.environment
SECRET_KEY = ENV.secret_key
ALLOWED_HOSTS = ENV.allowed_hosts
CSRF_TRUSTED_ORIGINS = ENV.csrf_trusted_origins
PUBLIC_URL = ENV.public_url
VAR_DIR = ENV.var_dir

INSTALLED_APPS = [
    "controlplane",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # urls.py finds the admin's pages: only the web process needs them
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "endpoints",
    "messaging",
    "testing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "endpoints.edge.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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

DATABASES = {"default": ENV.database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns when it is not there
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True

LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.public_url.startswith("https://")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if ENVIRONMENT == "production" and SESSION_COOKIE_SECURE:
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_RESET_TIMEOUT = 24 * 3600  # also of the first admin's login link

# Our own logging set-up: Django's default would print mails and access lines beside it.
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logs.configure(ENV.log_format, ENV.log_level, ENV.environment)

vars().update(ENV.mail)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENV.mail_from

DATA_UPLOAD_MAX_MEMORY_SIZE = 3 * 1024 * 1024 // 2
# endpoints.edge.handlers adds the slash instead, for people only: a redirected POST loses its body.
APPEND_SLASH = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "endpoints.access.rest.KeyAuthentication",
        "endpoints.access.rest.PageSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["endpoints.access.rest.RolePermission"],
    "DEFAULT_PARSER_CLASSES": ["endpoints.edge.json_api.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["endpoints.edge.renderers.ExactJSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "endpoints.edge.pages.KeysetPagination",
    "DEFAULT_FILTER_BACKENDS": ["endpoints.edge.filters.TableFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "endpoints.edge.openapi.Schema",
    "EXCEPTION_HANDLER": "endpoints.edge.exceptions.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_METADATA_CLASS": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Integration control plane",
    "DESCRIPTION": "Register systems, move messages between them, and ask what was not delivered, and why.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "SystemKindEnum": "endpoints.models.SystemKind",
        "CredentialKindEnum": "endpoints.models.CredentialKind",
        "SystemStateEnum": "endpoints.models.SystemState",
        "EndpointStateEnum": "endpoints.models.EndpointState",
        "NoticeKindEnum": "endpoints.models.NoticeKind",
        "NoticeStateEnum": "endpoints.models.NoticeState",
        "DeliveryStateEnum": "messaging.models.State",
        "AttemptOutcomeEnum": "messaging.models.Outcome",
        "VerdictEnum": "testing.models.Verdict",
        "RunStateEnum": "testing.models.RunState",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "endpoints.edge.openapi.add_problem",
        "messaging.openapi.add_raw_intake",
    ],
}

# What the apps above messaging add to the live dashboard.
DASHBOARD_PANELS = ["testing.panels.dashboard"]

UNFOLD = {
    "SITE_TITLE": "Control plane",
    "SITE_HEADER": "Control plane",
    "SITE_SUBHEADER": "Integrations",
    "SITE_URL": None,
    "SITE_ICON": "controlplane.dashboard.mark",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "controlplane.dashboard.mark"}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "controlplane.dashboard.environment",
    "DASHBOARD_CALLBACK": "controlplane.dashboard.dashboard",
    "STYLES": ["controlplane.dashboard.style", "controlplane.dashboard.suites_style"],
    "SCRIPTS": ["controlplane.dashboard.script"],
    "BORDER_RADIUS": "8px",
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.3)",
            "100": "oklch(93% .034 272.8)",
            "200": "oklch(87% .065 274)",
            "300": "oklch(78.5% .115 274.7)",
            "400": "oklch(67.3% .182 276.9)",
            "500": "oklch(58.5% .233 277.1)",
            "600": "oklch(51.1% .262 277)",
            "700": "oklch(45.7% .24 277)",
            "800": "oklch(39.8% .195 277.4)",
            "900": "oklch(35.9% .144 278.7)",
            "950": "oklch(25.7% .09 281.3)",
        }
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "controlplane.dashboard.navigation",
    },
}
