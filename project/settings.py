"""Settings of the site; docs/reference/environment.md lists the environment variables."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from project import environment

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
VAR = BASE_DIR / "var"

DEBUG = environment.flag("DEBUG", default=environment.is_development())

# Secrets

SECRET_KEY = environment.read("SECRET_KEY")
if not SECRET_KEY and DEBUG:
    SECRET_KEY = environment.stored_secret(VAR / "secret_key")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set; outside of DEBUG there is no default")
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": environment.read("JWT_SIGNING_KEY") or SECRET_KEY,
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=30),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
}

# The site

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",  # the same static files under every server
    "django.contrib.staticfiles",
    "rest_framework",
    "csp",
    "analytics_admin",
    "project",
]
MIDDLEWARE = [
    "analytics_admin.middleware.MonitoringMiddleware",  # first
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "analytics_admin.middleware.CircuitOpenMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
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
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Not the manifest storage: pages must work, if unstyled, without collectstatic.
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedStaticFilesStorage"
    },
}
REST_FRAMEWORK = {"NUM_PROXIES": environment.number("NUM_PROXIES", default=0)}
ANALYTICS_ADMIN: dict[str, Any] = {
    "ENVIRONMENT_NAME": environment.read("ENVIRONMENT_NAME"),
    "ENVIRONMENT_COLOR": environment.read("ENVIRONMENT_COLOR") or "gray",
    "METRICS_TOKEN": environment.read("METRICS_TOKEN"),
}

# Browsers load only this site's own files; inline scripts and styles are blocked

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}

# The demo search is open to anybody, so it is off in production by default

DEMO_SEARCH = environment.flag("DEMO_SEARCH", default=DEBUG)
DEMO_FOLDER = VAR / "demo"

# Database and users

DATABASES = {
    "default": environment.database(environment.read("DATABASE_URL"), default=VAR / "db.sqlite3")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# The store: one database per alias, so that a flush of one spares the others

REDIS_URL_IS_SET = bool(environment.read("REDIS_URL"))
EMBEDDED_STORE_FOLDER = VAR / "store"
if REDIS_URL_IS_SET:
    _store = environment.store_address(environment.read("REDIS_URL"))
elif DEBUG:
    _store = environment.unix_store(EMBEDDED_STORE_FOLDER / "store.sock")
else:  # a system check, wsgi.py and asgi.py stop here; other programs find no server
    _store = environment.unix_store(Path("/REDIS_URL is not set"))


def _cache(name: str, offset: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "SOCKET_CONNECT_TIMEOUT": 0.5,
        "SOCKET_TIMEOUT": 0.5,
        "USERNAME": _store.username,
        "PASSWORD": _store.password,
        **_store.pool(),
    }
    if DEBUG and not REDIS_URL_IS_SET:
        options["CONNECTION_POOL_CLASS"] = "project.embedded_store.EmbeddedStorePool"
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _store.location(offset, tag=name),
        "KEY_PREFIX": f"{{{name}}}" if _store.is_cluster else name,
        "OPTIONS": options,
    }


# A cluster has one database, and a flush of it would not be of one alias.
ANALYTICS_ADMIN["SEARCH_CACHE_DEDICATED"] = not _store.is_cluster
CACHES = {
    "default": _cache("site", 0),
    "search": _cache("search", 1),
    "breakers": _cache("breakers", 2),
}

# Behind a proxy, over HTTPS

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.flag("SECURE_COOKIES", default=not DEBUG)
SECURE_SSL_REDIRECT = environment.flag("SSL_REDIRECT", default=False)
SECURE_HSTS_SECONDS = environment.number("HSTS_SECONDS", default=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.flag("HSTS_INCLUDE_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = environment.flag("HSTS_PRELOAD", default=False)
# Preloading binds a whole domain for years: only its owner can ask for it.
SILENCED_SYSTEM_CHECKS = [] if SECURE_HSTS_PRELOAD else ["security.W021"]
if _proxy_header := env.str("PROXY_SSL_HEADER", default=""):
    SECURE_PROXY_SSL_HEADER = (f"HTTP_{_proxy_header.upper().replace('-', '_')}", "https")

# Errors and logs

DEFAULT_EXCEPTION_REPORTER = "project.redaction.RedactingReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "project.redaction.RedactingFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "project.redaction.RedactingFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "filters": {
        "shown": {"()": "django.utils.log.CallbackFilter", "callback": environment.is_logged}
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["shown"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "analytics_admin": {"level": "INFO"},
        "project": {"level": "INFO"},
        # Django's own handlers print each record a second time.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
    },
}
