"""Observability: statements as spans, numbers as metrics, the status page, and the board that processes share.

a trace         `sqltext` names a statement; `otel` (public) makes the spans
a metric        `process` (the pools of this process), `counts` (sums), `otel_metrics`
the board       `board`, with `files`, `reading`, `running` and `ended` for the processes, `counts_file` for those that
                are killed, `drains` for requests to renew connections
the page        `status_page`, `status_text`; `serving` over WSGI and ASGI

Never: changes a statement, makes a borrow or a return wait.
"""
