"""pandas reads and writes through an engine on the pool."""

import pandas

import pymysqlpool
from pymysqlpool.sqlalchemy import create_engine


def main(login):
    with pymysqlpool.ConnectionPool(maxsize=1, timeout=5, **login) as pool:
        engine = create_engine(pool)
        frame = pandas.DataFrame({"id": range(500), "n": [number * 0.5 for number in range(500)]})
        frame.to_sql("program_frame", engine, if_exists="replace", index=False, chunksize=200)
        back = pandas.read_sql("SELECT * FROM program_frame ORDER BY id", engine)
        pandas.testing.assert_frame_equal(frame, back)
        parts = pandas.read_sql("SELECT * FROM program_frame", engine, chunksize=100)
        assert sum(len(part) for part in parts) == 500
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE program_frame")
        assert pool.stats().in_use == 0
        engine.dispose()
