"""The one application of this site."""

from __future__ import annotations

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    name = "example_apps.django_app"
    label = "library"
    verbose_name = "Tool library"
    default_auto_field = "django.db.models.BigAutoField"
