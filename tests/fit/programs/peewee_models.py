"""peewee borrows its connections."""

import peewee

import pymysqlpool


def main(login):
    pool = pymysqlpool.ConnectionPool(maxsize=2, timeout=5, autocommit=True, **login)

    class Pooled(peewee.MySQLDatabase):
        def _connect(self):
            return pool.get_connection()

    database = Pooled(login["database"])

    class Person(peewee.Model):
        name = peewee.CharField(max_length=20)

        class Meta:
            database = None
            table_name = "program_person"

    Person.bind(database)
    with database.connection_context():
        database.drop_tables([Person])
        database.create_tables([Person])
        with database.atomic():
            Person.insert_many([{"name": "Ann"}, {"name": "Bob"}]).execute()
            with database.atomic() as savepoint:
                Person.create(name="Cid")
                savepoint.rollback()
        assert [person.name for person in Person.select().order_by(Person.id)] == ["Ann", "Bob"]
        database.drop_tables([Person])
    assert pool.stats().in_use == 0
    pool.close()
