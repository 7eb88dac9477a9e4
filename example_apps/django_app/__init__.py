"""The tool library of Saltmarsh: a small Django site on `pymysqlpool_django`. See README.md."""
