"""Django's settings for the tool library. What concerns the pool is in DATABASES, and nothing else is unusual.

The database comes from LIBRARY_HOST, LIBRARY_PORT, LIBRARY_USER, LIBRARY_PASSWORD and LIBRARY_NAME.
"""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("LIBRARY_SECRET_KEY", "only for a demo")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

DATABASES = {
    "default": {
        "ENGINE": "pymysqlpool_django",
        "HOST": os.environ.get("LIBRARY_HOST", "127.0.0.1"),
        "PORT": os.environ.get("LIBRARY_PORT", "3306"),
        "USER": os.environ.get("LIBRARY_USER", "root"),
        "PASSWORD": os.environ.get("LIBRARY_PASSWORD", ""),
        "NAME": os.environ.get("LIBRARY_NAME", "library"),
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {
            "read_timeout": 30,  # seconds; above the slowest statement
            "pool": {
                "max_size": 6,
                "timeout": 10,
                "max_lifetime": 1800,
            },
        },
    }
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pymysqlpool_django",  # system checks, and the command poolstatus
    "example_apps.django_app",
]
MIDDLEWARE = [
    "pymysqlpool_django.middleware.UnavailableMiddleware",  # first: 503 with Retry-After where no database can be had
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
ROOT_URLCONF = "example_apps.django_app.urls"
ASGI_APPLICATION = "example_apps.django_app.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"  # any other needs the time zone tables in the server, for date_hierarchy
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    # One line per request is too much beside the tour.
    "loggers": {"django.server": {"handlers": ["console"], "level": "ERROR", "propagate": False}},
}
