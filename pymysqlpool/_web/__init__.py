"""What is behind the WSGI and ASGI middlewares: the scopes of ASGI requests and of websockets, and messages.

a request       `async_scope`: one lease for its tasks and threads; `limiter`: a waiting thread is no thread too many
a response      `response`, `messages`
a websocket     ASGI: `socket_scope`, with a `socket_share` for each task; its `task_connection` and, in threads,
                `thread_call`. WSGI: `socket_connection`
a server        `lifespan`: its start and its end
"""
