"""SQLAlchemy's ORM on an engine that has a pool of its own."""

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from pymysqlpool.sqlalchemy import LeasePool


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "program_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "program_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(20))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("program_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def main(login):
    url = sa.URL.create(
        "mysql+pymysql", login["user"], login["password"], login["host"], login["port"], login["database"]
    )
    engine = sa.create_engine(url, poolclass=LeasePool, pool_size=1, max_overflow=1)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Author(name="Ann", books=[Book(title="One"), Book(title="Two")]))
    with Session(engine) as session:
        ann = session.scalars(sa.select(Author).where(Author.name == "Ann")).one()
        assert [book.title for book in ann.books] == ["One", "Two"]
        session.delete(ann)
        session.rollback()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 2
    Base.metadata.drop_all(engine)
    assert engine.pool.checkedout() == 0
    engine.dispose()
