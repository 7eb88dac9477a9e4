"""A pool in an object whose method goes to the processes of `multiprocessing`."""

import multiprocessing
import os

import pymysqlpool


class Squares:
    def __init__(self, pool):
        self.pool = pool

    def of(self, number):
        with self.pool.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s * %s, CONNECTION_ID()", (number, number))
            return (*cursor.fetchone(), os.getpid())


def main(login):
    with pymysqlpool.ConnectionPool(size=1, maxsize=1, **login) as pool:
        squares = Squares(pool)
        here = squares.of(3)
        with multiprocessing.get_context("fork").Pool(2) as workers:
            answers = workers.map(squares.of, range(8), chunksize=1)
        assert [square for square, _, _ in answers] == [number * number for number in range(8)]
        assert here[2] not in {process for _, _, process in answers}
        sessions = {process: set() for _, _, process in answers}
        for _, session, process in answers:
            sessions[process].add(session)
        assert all(len(its) == 1 for its in sessions.values()), "one pool for each process"
        assert squares.of(3) == here
