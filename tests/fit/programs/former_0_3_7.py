"""A program as it was written for pymysql-pool 0.3.7."""

import threading

import pymysql

import pymysqlpool

pymysqlpool.logger.setLevel("WARNING")


class Database:
    pool = None

    def __init__(self, login):
        if Database.pool is None:
            config = {**login, "autocommit": True, "cursorclass": pymysql.cursors.DictCursor}
            Database.pool = pymysqlpool.ConnectionPool(size=2, maxsize=3, pre_create_num=2, name="pool1", **config)

    def query(self, sql, args=None):
        connection = self.pool.get_connection(retry_num=10, retry_interval=0.5)
        cursor = connection.cursor()
        try:
            cursor.execute(sql, args)
            return cursor.fetchall(), cursor.lastrowid
        except pymysql.err.ProgrammingError as error:
            return error.args[0], None
        finally:
            cursor.close()
            connection.close()


def main(login):
    database = Database(login)
    assert (database.pool.size, database.pool.maxsize, database.pool.connection_num) == (2, 3, 2)
    database.query("DROP TABLE IF EXISTS program_037")
    database.query("CREATE TABLE program_037 (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))")
    assert database.query("INSERT INTO program_037 (name) VALUES (%s)", ("a",))[1] == 1
    assert database.query("SELECT name FROM program_037")[0] == [{"name": "a"}]
    assert database.query("SELECT nonsense FROM nowhere")[0] == 1146
    ids = []
    threads = [
        threading.Thread(
            target=lambda: ids.append(database.query("INSERT INTO program_037 (name) VALUES ('b')")[1]),
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(2, 10))
    with database.pool.get_connection() as cur:
        assert cur.execute("SELECT id FROM program_037 WHERE id < 3") == cur.rowcount == 2
        assert [row["id"] for row in cur] == [1, 2]
    assert database.pool.get_connection().execute_query("SELECT 1 AS one", dictcursor=True, return_one=True) == {
        "one": 1
    }
    one, two, three = (database.pool.get_connection() for _ in range(3))
    try:
        database.pool.get_connection(retry_num=1, retry_interval=0.01)
    except pymysqlpool.GetConnectionFromPoolError:
        one.close()
    for connection in (two, three):
        connection.close()
    try:
        one.close()
    except pymysqlpool.ReturnConnectionToPoolError:
        database.query("DROP TABLE program_037")
    Database.pool = database.pool.close()
