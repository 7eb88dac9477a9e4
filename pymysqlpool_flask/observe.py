"""The status page and the metrics of an application's pools, as a blueprint. Served nowhere until it is registered.

    from pymysqlpool_flask.observe import blueprint

    pages = blueprint()

    @pages.before_request
    def for_operators_only():
        if not current_user.is_operator:
            abort(403)

    app.register_blueprint(pages, url_prefix="/pools")  # the page at /pools/, the metrics at /pools/metrics

Never: decides which users may see it; protect the blueprint.
"""

from __future__ import annotations

import os

from flask import Blueprint, Response

from pymysqlpool import status


def blueprint(
    name: str = "pymysqlpool", *, folder: str | os.PathLike[str] | None = None, metrics: bool = False
) -> Blueprint:
    """Return the blueprint: the page at "/", and the metrics for Prometheus at "/metrics".

    Args:
        name: the blueprint's, for `url_for`.
        folder: which the workers share; default: PYMYSQLPOOL_BOARD in the environment, else `pymysqlpool` in
            PROMETHEUS_MULTIPROC_DIR; with none, the pages show the worker that answers.
        metrics: whether there is a "/metrics"; needs `prometheus-client`.
    """
    pages = Blueprint(name, __name__)
    status.publish(folder)

    @pages.get("/")
    def page() -> Response:
        return _response(status.page(folder))

    if metrics:
        from pymysqlpool.prometheus import metrics_page  # an extra

        @pages.get("/metrics", endpoint="metrics")
        def scraped() -> Response:
            return _response(metrics_page(folder))

    return pages


def _response(answer: status.Answer) -> Response:
    kind, body = answer
    return Response(body, content_type=kind, headers=status.HEADERS)
