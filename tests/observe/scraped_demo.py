"""The Flask example with the page that Prometheus scrapes."""

from __future__ import annotations

from pymysqlpool_flask.observe import blueprint
from tests.load import application

app = application()
app.register_blueprint(blueprint("scraped", metrics=True), url_prefix="/pools")
