"""The engine `pymysqlpool_django.gis`: Django's spatial backend with the same pool under it (must-handle 27)."""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pymysqlpool.devserver import DevServer

from .conftest import RunSite, database

# Where the libraries are, for systems on which ctypes does not find them.
LIBRARIES = {name: os.environ[name] for name in ("GDAL_LIBRARY_PATH", "GEOS_LIBRARY_PATH") if name in os.environ}

PLACES = """
def main():
    from django.contrib.gis.db import models
    from django.contrib.gis.geos import Point, Polygon
    from django.db import connection, connections
    from pymysqlpool_django import base, pools

    class Place(models.Model):
        name = models.CharField(max_length=20)
        where = models.PointField()

        class Meta:
            app_label = "places"

    with connection.schema_editor() as editor:
        editor.create_model(Place)
    try:
        Place.objects.create(name="near", where=Point(1, 1))
        connection.close()
        Place.objects.create(name="far", where=Point(50, 50))
        found = list(Place.objects.filter(where__within=Polygon.from_bbox((0, 0, 2, 2))).values_list("name", flat=True))
        where = Place.objects.get(name="far").where.coords
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Place)
    connection.close()
    numbers, = pools.stats()["default"]
    report([found, where, isinstance(connections["default"], base.DatabaseWrapper), connection.ops.__class__.__module__,
            numbers.created, numbers.in_use])
"""


def test_a_spatial_model_on_a_pool(run_site: RunSite, server: DevServer) -> None:
    try:
        from django.conf import settings

        for name, path in LIBRARIES.items():
            setattr(settings, name, path)
        from django.contrib.gis import gdal  # noqa: F401 - only whether it can be loaded matters
    except (ImproperlyConfigured, OSError) as error:
        pytest.skip(f"no GDAL: {error}")
    spatial: dict[str, Any] = {**database(server), "ENGINE": "pymysqlpool_django.gis"}
    told = run_site(PLACES, {"default": spatial}, **LIBRARIES)
    assert told == [["near"], [50.0, 50.0], True, "django.contrib.gis.db.backends.mysql.operations", 1, 0]
