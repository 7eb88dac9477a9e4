"""A Django database backend: MySQL and MariaDB through PyMySQL, pooled. `ENGINE = "pymysqlpool_django"`."""
