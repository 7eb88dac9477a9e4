"""The ASGI middleware, without a server."""
