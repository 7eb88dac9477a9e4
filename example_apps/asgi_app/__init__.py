"""The harbour log: a Starlette application on an AsyncConnectionPool."""
