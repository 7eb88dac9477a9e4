"""SQLAlchemy Core on a shared pool."""

import sqlalchemy as sa

import pymysqlpool
from pymysqlpool.sqlalchemy import create_engine


def main(login):
    pool = pymysqlpool.ConnectionPool(maxsize=2, timeout=5, **login)
    engine = create_engine(pool)
    table = sa.Table(
        "program_core", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer)
    )
    table.drop(engine, checkfirst=True)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"n": 1}, {"n": 2}, {"n": 3}])
        assert connection.execute(table.update().where(table.c.n > 1).values(n=table.c.n * 10)).rowcount == 2
    with engine.connect() as connection:
        assert connection.scalars(sa.select(table.c.n).order_by(table.c.id)).all() == [1, 20, 30]
        with connection.execution_options(stream_results=True).execute(sa.select(table)) as rows:
            assert rows.first() == (1, 1)
    with pool.get_connection() as connection:
        assert connection.execute_query("SELECT COUNT(*) FROM program_core", return_one=True) == (3,)
    table.drop(engine)
    engine.dispose()
    assert pool.stats().in_use == 0
    pool.close()
