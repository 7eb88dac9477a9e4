"""Django's spatial MySQL backend with the driver and the pool of `pymysqlpool_django.base`."""

from __future__ import annotations

from .. import base, features, schema  # makes Django's backend importable where there is no mysqlclient

# isort: split
from django.contrib.gis.db.backends.mysql import base as gis
from django.contrib.gis.db.backends.mysql.features import DatabaseFeatures as SpatialFeatures
from django.contrib.gis.db.backends.mysql.schema import MySQLGISSchemaEditor


class DatabaseFeatures(features.DatabaseFeatures, SpatialFeatures):
    pass


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor, MySQLGISSchemaEditor):
    pass


class DatabaseWrapper(base.DatabaseWrapper, gis.DatabaseWrapper):
    SchemaEditorClass: type[DatabaseSchemaEditor] = DatabaseSchemaEditor
    features_class: type[DatabaseFeatures] = DatabaseFeatures
