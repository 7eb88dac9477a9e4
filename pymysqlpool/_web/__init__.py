"""What WSGI and ASGI share."""
