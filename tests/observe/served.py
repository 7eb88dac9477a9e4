"""The application that the tests serve with several workers: a page that borrows once, numbers, the pool's pages."""

APPLICATION = """
import os
from flask import Flask, g
from pymysqlpool_flask import PyMySQLPool
from pymysqlpool_flask.observe import blueprint

app = Flask(__name__)
app.config.from_prefixed_env()
PyMySQLPool(app)
app.register_blueprint(blueprint(metrics=True), url_prefix="/pools")

@app.get("/numbers")
def numbers():
    return {}

@app.get("/one")
def one():
    with g.db.cursor() as cursor:
        cursor.execute("SELECT 1")
    return str(os.getpid())
"""
