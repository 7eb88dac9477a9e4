"""The twin of `pymysqlpool_django` for GeoDjango. `ENGINE = "pymysqlpool_django.gis"`."""
