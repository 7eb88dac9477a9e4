"""Where the pages are."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from pymysqlpool_django.views import pool_status, status_page

from . import views

urlpatterns = [
    path("", views.shelves, name="shelves"),
    path("tool/<int:pk>/", views.tool, name="tool"),
    path("loan/<int:pk>/give-back/", views.give_back, name="give_back"),
    path("api/tools.json", views.tools_json, name="tools_json"),
    path("pulse.json", views.pulse, name="pulse"),
    path("pool/", views.pool, name="pool"),
    path("pools/", status_page, name="pool_status"),  # for staff: what holds connections, and from where
    path("pools.json", pool_status, name="pools"),
    path("admin/", admin.site.urls),
]
handler404 = views.missing
