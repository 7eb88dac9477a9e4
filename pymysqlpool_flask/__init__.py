"""The Flask extension: each request borrows its connection at the first use. See `PyMySQLPool`.

app = Flask(__name__)
app.config["PYMYSQLPOOL"] = {"host": "127.0.0.1", "user": "shop", "password": "...", "database": "shop"}
db = PyMySQLPool(app)

@app.get("/")
def index():
    with g.db.cursor() as cursor:
        ...
"""

from pymysqlpool.request_scope import NoRequestScopeError

from .config import ConfigError
from .extension import PoolGlobals, PyMySQLPool, g, no_transaction

__all__ = ["ConfigError", "NoRequestScopeError", "PoolGlobals", "PyMySQLPool", "g", "no_transaction"]
