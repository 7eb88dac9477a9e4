"""Flask-SQLAlchemy and `g.db` on one pool."""

from flask import Flask, g
from flask_sqlalchemy import SQLAlchemy

from pymysqlpool.sqlalchemy import LeasePool
from pymysqlpool_flask import PyMySQLPool


def main(login):
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**login, "maxsize": 2, "timeout": 5, "read_timeout": 10}
    app.config["SQLALCHEMY_DATABASE_URI"] = "mysql+pymysql://"
    pool = PyMySQLPool(app)
    options = {"poolclass": LeasePool, "connection_pool": lambda: pool.get_pool(app=app)}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    db = SQLAlchemy(app)

    class Note(db.Model):
        __tablename__ = "program_note"
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String(20))

    @app.get("/")
    def both():
        with g.db.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM program_note")
            return {"orm": [note.text for note in db.session.scalars(db.select(Note))], "sql": cursor.fetchone()[0]}

    with app.app_context():
        db.drop_all()
        db.create_all()
        db.session.add(Note(text="one"))
        db.session.commit()
    assert app.test_client().get("/").json == {"orm": ["one"], "sql": 1}
    with app.app_context():
        db.session.remove()
        db.drop_all()
    its = pool.get_pool(app=app)
    assert its.stats().in_use == 0
    its.close()
