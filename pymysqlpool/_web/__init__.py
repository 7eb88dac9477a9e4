"""The parts that the WSGI and ASGI middlewares share: scopes of requests and websockets, and messages."""
