"""A program as it was written for pymysql-pool 0.5.0, with its default `autocommit=True` written out."""

import pymysql

import pymysqlpool


def main(login):
    pool = pymysqlpool.ConnectionPool(size=2, maxsize=3, name="pool2", pre_create_num=1, autocommit=True, **login)
    assert (pool.available_num, pool.total_num) == (1, 1)
    connection = pool.get_connection()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS program_050")
        cursor.execute("CREATE TABLE program_050 (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))")
        assert cursor.db_modify("INSERT INTO program_050 (name) VALUES (%s)", ("a",)) == {"rowcount": 1, "lastrowid": 1}
        many = cursor.db_modify("INSERT INTO program_050 (name) VALUES (%s)", [("b",), ("c",)], exec_many=True)
        assert many["rowcount"] == 2
    connection.close()
    with pool.get_connection() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        assert cursor.db_query("SELECT name FROM program_050 WHERE id > %s ORDER BY id", (1,)) == [
            {"name": "b"},
            {"name": "c"},
        ]
        assert isinstance(cursor, pymysqlpool.DictCursor)
    with pool.get_connection() as connection, connection.cursor(pymysql.cursors.Cursor) as cursor:
        assert cursor.db_query("SELECT name FROM program_050 WHERE id = 9") == ()
    connection = pool.get_connection()
    connection.autocommit(False)
    connection.close()
    with pool.get_connection() as connection:
        assert connection.get_autocommit()
    for use in (connection.cursor, connection.commit, connection.close):
        try:
            use()
        except pymysqlpool.ReturnConnectionToPoolError:
            continue
        raise AssertionError("a returned connection was used")
    only = pymysqlpool.ConnectionPoolSingleton(size=1, maxsize=1, **login)
    assert pymysqlpool.ConnectionPoolSingleton() is only
    connection = only.get_connection()
    connection.cursor().db_modify("DELETE FROM program_050 WHERE id = 1")
    connection.close()
    with pool.get_connection() as connection, connection.cursor() as cursor:
        assert cursor.db_query("SELECT COUNT(*) FROM program_050") == ((2,),)
        cursor.execute("DROP TABLE program_050")
    only.close()
    pool.close()
