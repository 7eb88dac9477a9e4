"""SQLAlchemy's engines on this pool, beside an engine with SQLAlchemy's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from pymysql.constants import CLIENT
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pymysqlpool import ConnectionPool, PoolUnavailable
from pymysqlpool.sqlalchemy import LeasePool, create_engine

MakePool = Callable[..., ConnectionPool]
MakeEngine = Callable[..., sa.Engine]


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "sqlalchemy_thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))


@pytest.fixture
def url(connect_args: dict[str, Any], admin: Any) -> Iterator[sa.URL]:
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sqlalchemy_thing")
        cursor.execute("CREATE TABLE sqlalchemy_thing (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))")
        names = {"username": "user", "password": "password", "host": "host", "port": "port", "database": "database"}
        yield sa.URL.create("mysql+pymysql", **{name: connect_args[argument] for name, argument in names.items()})
        cursor.execute("DROP TABLE sqlalchemy_thing")


@pytest.fixture
def make_engine(url: sa.URL) -> Iterator[MakeEngine]:
    """Engines with a pool of their own."""
    engines: list[sa.Engine] = []

    def make(**options: Any) -> sa.Engine:
        options.setdefault("connect_args", {"ssl_disabled": True})
        engine = sa.create_engine(url, **{"poolclass": LeasePool, **options})
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        if isinstance(engine.pool, LeasePool):
            engine.pool.connection_pool.close(timeout=0)
        else:
            engine.dispose()


@pytest.fixture(params=["own", "shared"])
def engine(
    request: pytest.FixtureRequest, url: sa.URL, make_engine: MakeEngine, make_pool: MakePool
) -> Iterator[sa.Engine]:
    """With a pool of its own, and with one that others use as well."""
    if request.param == "own":
        yield make_engine(pool_size=1, max_overflow=1, pool_timeout=1.0)
    else:
        yield create_engine(make_pool(size=1, maxsize=2, timeout=1.0, client_flag=CLIENT.FOUND_ROWS))


def pool_of(engine: sa.Engine) -> ConnectionPool:
    assert isinstance(engine.pool, LeasePool)
    return engine.pool.connection_pool


def id_of(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.text("SELECT CONNECTION_ID()")) or 0)


def commands(admin: Any, work: Callable[[], None]) -> int:
    def questions() -> int:
        with admin.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    def cost() -> int:
        before = questions()
        work()
        return questions() - before - 1

    work()
    work()
    return min(cost() for _ in range(10))  # the whole server's number: the end of another test's connection counts


def select(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT COUNT(*) FROM sqlalchemy_thing"))


def insert(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sqlalchemy_thing (name) VALUES ('a')"))


def test_a_unit_of_work_costs_what_it_costs_with_queuepool(
    make_engine: MakeEngine, make_pool: MakePool, admin: Any
) -> None:
    stock, ours = make_engine(poolclass=sa.QueuePool), make_engine()
    shared = create_engine(make_pool())
    assert [commands(admin, partial(select, engine)) for engine in (ours, shared)] == [2, 2]
    assert commands(admin, lambda: select(stock)) == 2
    assert commands(admin, lambda: insert(ours)) == 2 <= commands(admin, lambda: insert(stock))
    # Other borrowers of a shared pool find LAST_INSERT_ID() at 0, as in a new session.
    assert commands(admin, lambda: insert(shared)) == 3


def test_one_record_and_one_connect_event_for_each_physical_connection(engine: sa.Engine) -> None:
    connected, checked_out = [], []
    event.listen(engine, "connect", lambda connection, record: connected.append(record))
    event.listen(engine, "checkout", lambda connection, record, fairy: checked_out.append(record))
    for _ in range(5):
        insert(engine)
        with engine.connect() as connection:
            connection.info["seen"] = connection.info.get("seen", 0) + 1
    assert connection.closed
    with engine.connect() as connection:
        assert connection.info["seen"] == 5
    assert len(connected) == 1
    assert set(checked_out) == set(connected)
    assert pool_of(engine).stats().created == 1


def test_what_a_connect_event_sets_is_there_at_every_checkout(engine: sa.Engine) -> None:
    @event.listens_for(engine, "connect")
    def zone(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+03:00'")

    for dirt in ("SELECT 1", "SET @x = 1, time_zone = '+05:00'", "SELECT GET_LOCK('a', 0)"):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT @@time_zone, @x")).one() == ("+03:00", None)
            connection.execute(sa.text(dirt))


def test_other_borrowers_do_not_see_what_a_connect_event_has_set(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    engine = create_engine(pool)

    @event.listens_for(engine, "connect")
    def zone(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET @x = 1")

    for _ in range(2):
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT @x")) == 1
        assert pool.get_connection().execute_query("SELECT @x") == ((None,),)


def test_isolation_levels_last_for_one_checkout(engine: sa.Engine) -> None:
    def shown(connection: sa.Connection) -> tuple[str, int]:
        return connection.get_isolation_level(), connection.scalar(sa.text("SELECT @@autocommit"))

    for level, seen in {"SERIALIZABLE": ("SERIALIZABLE", 0), "AUTOCOMMIT": ("REPEATABLE READ", 1)}.items():
        with engine.connect().execution_options(isolation_level=level) as connection:
            assert shown(connection) == seen
        with engine.connect() as connection:
            assert shown(connection) == ("REPEATABLE READ", 0)


def test_an_engine_of_an_isolation_level(make_engine: MakeEngine, admin: Any) -> None:
    engine = make_engine(isolation_level="AUTOCOMMIT", pool_size=1)
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO sqlalchemy_thing (name) VALUES ('a')"))
    with admin.cursor() as cursor:
        assert cursor.execute("SELECT * FROM sqlalchemy_thing") == 3
    assert pool_of(engine).stats().reset == 0


def test_the_orm_and_its_stale_rows(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.add_all([Thing(name="a"), Thing(name="b")])
        session.commit()
        first = session.get(Thing, 1)
        assert first is not None
        session.execute(sa.update(Thing).where(Thing.id == 1).values(name="c"))
        first.name = "c"  # changes nothing: matched, not changed
        session.commit()
        assert sorted(session.scalars(sa.select(Thing.name))) == ["b", "c"]


def test_a_pool_that_counts_changed_rows_does_not_fail_the_orm(make_pool: MakePool, url: sa.URL) -> None:
    engine = create_engine(make_pool())
    with Session(engine) as session, Session(engine) as other:
        session.add(Thing(name="a"))
        session.commit()
        thing = session.get(Thing, 1)
        assert thing is not None
        session.commit()
        thing.name = "b"
        other.execute(sa.text("SELECT 1"))
        session.flush()
        session.commit()
    assert not engine.dialect.supports_sane_rowcount


def test_results_are_streamed(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(Thing), [{"name": str(number)} for number in range(50)])
    with engine.connect().execution_options(yield_per=7) as connection:
        assert len(list(connection.execute(sa.select(Thing)))) == 50
    with engine.connect().execution_options(stream_results=True) as connection:
        next(iter(connection.execute(sa.select(Thing))))  # and not the rest
    select(engine)


def test_a_full_pool_is_sqlalchemys_timeout_and_names_the_users_lines(engine: sa.Engine) -> None:
    with engine.connect(), engine.connect(), pytest.raises(sa.exc.TimeoutError, match="2 in use") as caught:
        engine.connect()
    assert str(caught.value).count(f"borrowed at {__file__}") == 2


def test_a_server_that_cannot_be_reached_is_an_operational_error(make_engine: MakeEngine) -> None:
    engine = sa.create_engine("mysql+pymysql://root@127.0.0.1:1/x", poolclass=LeasePool, pool_timeout=0.2)
    with pytest.raises(sa.exc.OperationalError) as caught:
        engine.connect()
    assert isinstance(caught.value.orig, PoolUnavailable)
    pool_of(engine).close(timeout=0)


def test_a_lost_connection_is_a_disconnect_and_the_next_checkout_works(engine: sa.Engine, admin: Any) -> None:
    with engine.connect() as connection:
        killed = id_of(connection)
        admin.kill(killed)
        with pytest.raises(sa.exc.OperationalError) as caught:
            while True:
                connection.execute(sa.text("SELECT 1"))
        assert caught.value.connection_invalidated
        connection.rollback()
        assert id_of(connection) != killed, "the same Connection goes on with another session"
    assert pool_of(engine).stats().in_use == 0


def test_a_connection_that_the_pool_took_back_is_a_disconnect(engine: sa.Engine) -> None:
    select(engine)
    connection = engine.connect()
    pool_of(engine).close(timeout=0)
    with pytest.raises(sa.exc.DBAPIError) as caught:
        connection.execute(sa.text("SELECT 1"))
    assert caught.value.connection_invalidated
    connection.close()


def test_invalidate_discards_and_detach_keeps(engine: sa.Engine) -> None:
    connection = engine.connect()
    gone = id_of(connection)
    connection.invalidate()
    assert pool_of(engine).stats().in_use == 0
    connection.rollback()
    assert id_of(connection) != gone
    connection.close()
    with engine.connect() as soft:
        gone = id_of(soft)
        assert soft.connection._connection_record is not None  # type: ignore[attr-defined]
        soft.connection.invalidate(soft=True)
    with engine.connect() as connection:
        assert id_of(connection) != gone
        connection.detach()
        assert pool_of(engine).stats().total == 0
        assert connection.scalar(sa.text("SELECT 1")) == 1
    assert connection.closed


def test_dispose_renews_the_connections(engine: sa.Engine) -> None:
    with engine.connect() as lent:
        old = id_of(lent)
        engine.dispose()
        assert id_of(lent) == old
    with engine.connect() as connection:
        assert id_of(connection) != old
    assert pool_of(engine).stats().total == 1


def test_a_checkout_event_may_refuse_a_connection(engine: sa.Engine) -> None:
    refused = []

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, fairy: Any) -> None:
        if not refused:
            refused.append(connection.thread_id())
            raise sa.exc.DisconnectionError("not this one")

    with engine.connect() as connection:
        assert id_of(connection) not in refused
    assert pool_of(engine).stats().in_use == 0
    assert pool_of(engine).stats().total == 1


def test_do_connect_events_are_asked_at_every_connect(make_engine: MakeEngine) -> None:
    engine = make_engine(connect_args={"ssl_disabled": True, "password": "wrong"}, pool_size=2)
    password = engine.url.password
    asked = []

    @event.listens_for(engine, "do_connect")
    def token(dialect: Any, record: Any, args: Any, arguments: dict[str, Any]) -> None:
        asked.append(arguments["password"])
        arguments["password"] = password

    with engine.connect(), engine.connect():
        assert set(asked) == {"wrong"}
        assert len(asked) > 1


def test_an_engine_that_makes_connections_itself_is_refused(connect_args: dict[str, Any]) -> None:
    engine = sa.create_engine("mysql+pymysql://", creator=lambda: pymysql.connect(**connect_args), poolclass=LeasePool)
    with pytest.raises(sa.exc.ArgumentError, match="give the engine a URL"):
        engine.connect()


def test_tools_that_call_the_pools_creator_get_a_lease(engine: sa.Engine) -> None:
    """As SQLAlchemy allows it, with a record and without one."""
    creator: Any = engine.pool._creator
    connection = creator()
    connection.query("SELECT 1")
    assert pool_of(engine).stats().in_use == 1
    connection.close()
    assert pool_of(engine).stats().in_use == 0


def test_threads_and_sqlalchemy_share_one_bound(url: sa.URL, make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, timeout=10)
    engine = create_engine(lambda: pool)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                if number % 2:
                    insert(engine)
                else:
                    pool.get_connection().execute_query("SELECT 1")
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert pool.stats().total <= 2
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count(Thing.id))) == 60
