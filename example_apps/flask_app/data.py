"""The board's tables, and some years of life in Saltmarsh to fill them: the same every time.

Never: random from run to run, dependent on the clock (the newest notice is `NOW` years old, as far as it knows).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymysqlpool import ConnectionPool

NOW = datetime(2026, 6, 20, 18, 0)
PEOPLE, NOTICES, REPLIES = 140, 2400, 5200

TABLES = (
    """CREATE TABLE topic (
        id TINYINT UNSIGNED PRIMARY KEY, slug VARCHAR(20) NOT NULL UNIQUE, name VARCHAR(40) NOT NULL,
        sign VARCHAR(8) NOT NULL)""",
    """CREATE TABLE person (
        id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE,
        joined DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP)""",
    """CREATE TABLE notice (
        id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, topic_id TINYINT UNSIGNED NOT NULL,
        person_id INT UNSIGNED NOT NULL, title VARCHAR(120) NOT NULL, body TEXT NOT NULL,
        thanks INT UNSIGNED NOT NULL DEFAULT 0, written DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
        KEY (topic_id, id), FULLTEXT KEY words (title, body),
        FOREIGN KEY (topic_id) REFERENCES topic (id), FOREIGN KEY (person_id) REFERENCES person (id))""",
    """CREATE TABLE reply (
        id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, notice_id INT UNSIGNED NOT NULL,
        person_id INT UNSIGNED NOT NULL, body VARCHAR(500) NOT NULL,
        written DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
        FOREIGN KEY (notice_id) REFERENCES notice (id), FOREIGN KEY (person_id) REFERENCES person (id))""",
)

INSERT_PERSON = "INSERT INTO person (name, joined, id) VALUES (%s, %s, %s)"
INSERT_NOTICE = """INSERT INTO notice (topic_id, person_id, title, body, thanks, written, id)
    VALUES (%s, %s, %s, %s, %s, %s, %s)"""


def _words(text: str) -> list[str]:
    return text.split(", ")


# Signs that every font with symbols has: not all of them have emoji.
TOPICS = (
    (1, "lost-found", "Lost & found", "☂"),
    (2, "swaps", "Swaps & gifts", "⇄"),
    (3, "boats", "Boats & tides", "⚓"),
    (4, "garden", "Kitchen gardens", "❀"),
    (5, "music", "Music nights", "♫"),
    (6, "help", "Lend a hand", "⚒"),
)
FIRST = _words(
    "Ada, Bram, Clara, Dov, Elin, Finn, Greta, Hugo, Iris, Jonas, Kaia, Levi, Maud, Nils, Odette, Pim, Quinn, Rosa, "
    "Sven, Tilda, Ulf, Vera, Wim, Yara, Zeno, Agnes, Bo, Cato"
)
LAST = _words("Reed, Marsh, Holm, Teal, Sloe, Quay, Wick, Garnet, Fenn, Tarn, Brack, Lugger, Oakes, Petrel, Skerry")

# For each topic: titles, and what is said below them. {thing}, {place}, {day} and {time} are drawn.
THINGS = {
    1: _words(
        "one red mitten, a brass key, a child's kite, reading glasses, a grey tabby called Anchor, a silver thimble, "
        "an umbrella with ducks, a harmonica in C"
    ),
    2: _words(
        "a bread oven stone, forty jam jars, a sewing machine, a box of sea charts, a rocking chair, a bicycle pump, "
        "crime novels by the metre, a sourdough starter named Gunnar"
    ),
    3: _words(
        "a clinker dinghy, a mooring for the winter, a pair of oars, a deckhand, an outboard with opinions, "
        "a tow to the slipway, a place in the regatta, old rope"
    ),
    4: _words(
        "tomato seedlings, seed potatoes, a wheelbarrow of compost, too many courgettes, a plum tree to pick, "
        "rhubarb crowns, bean poles, slug advice"
    ),
    5: _words(
        "a second fiddle, a bass voice, a piano that still tunes, a caller for the barn dance, accordion lessons, "
        "the old shanty book, a drummer with a van, chairs for the chapel concert"
    ),
    6: _words(
        "a ladder and a steady hand, somebody tall, a lift to the clinic, help with a roof tile, a dog walker, "
        "two people and a sofa, reading aloud, someone who knows wasps"
    ),
}
TITLES = {
    1: ("Found: {thing}", "Lost near {place}: {thing}", "Whose is this? {thing}", "Still missing: {thing}"),
    2: ("Free to a good home: {thing}", "Swap: {thing} for almost anything", "Wanted: {thing}", "Going: {thing}"),
    3: ("Looking for {thing}", "For hire: {thing}", "{thing}, ask at {place}", "Before the {day} tide: {thing}"),
    4: ("Help yourself: {thing}", "Wanted: {thing}", "{thing} by {place}", "Swap you: {thing}"),
    5: ("Wanted for {day}: {thing}", "{day} at {place}: bring {thing}", "On offer: {thing}", "Once more: {thing}"),
    6: ("Needed on {day}: {thing}", "Could you spare {thing}?", "{thing}, near {place}", "Offered: {thing}"),
}
BODIES = (
    "It has been sitting by {place} since {day}, and the gulls are getting interested.",
    "Come by after {time}; knock loudly, the dog is deaf but the neighbours are not.",
    "No money please. Cake is always understood.",
    "I have asked at {place} and at the harbour office. Nobody knows, everybody has a theory.",
    "If it rains we do it on {day} instead. If it rains then as well, we do it anyway.",
    "My aunt swears by it. My aunt swears a good deal in general.",
    "You will find me at {place} on {day} around {time}, in the yellow coat.",
    "It is in fine order apart from the part that is not, which I shall point out.",
    "The last time somebody asked for this we ended up with a choir, so be warned.",
    "Leave a note under the flowerpot at {place}. Not the blue one, the blue one is a trap for snails.",
    "First come, first served, and whoever comes second gets tea.",
    "Needed until the spring tide, or until somebody builds a better one.",
    "My grandmother had one. She also had opinions about yours.",
    "It fits through a door if you are patient, and the door is wide.",
    "I can fetch it with the handcart on {day}, unless the handcart is what you are after.",
    "Please no geese this time.",
    "Ring the bell at {place} twice. Once is for fish.",
    "It worked when I last looked, which was before the war with the moles.",
    "If nobody wants it by {day} it goes to the school, and they will paint it.",
    "I would rather give it to somebody who sings.",
    "There is a story behind it, told at {place} after {time} and only with something to drink.",
    "The children named it. The name is not suitable for a notice board.",
)
PLACES = _words(
    "the ferry steps, the smokehouse, Lantern Lane, the chapel wall, the chandler's, Gull Bridge, the school gate, "
    "the old lighthouse, the bakery bench, Low Meadow"
)
DAYS = _words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
REPLY_BODIES = (
    "I'll come by on {day}.",
    "Is it still there? I could fetch it after {time}.",
    "Seen one just like it near {place}!",
    "Thank you, you saved my week.",
    "Mine was blue, sadly. Good luck!",
    "Ask at {place}, they had three last year.",
    "Count me in. I bring soup.",
    "Would {day} at {time} suit you?",
    "The ferry man says it's his. The ferry man always says that.",
    "Gone already? Serves me right for sleeping in.",
)

Row = tuple[Any, ...]


def load(pool: ConnectionPool) -> int:
    """Create the tables and fill them. Returns the number of rows."""
    chance = random.Random(1881)
    rows = 0
    with pool.get_connection() as connection:
        for table in TABLES:
            connection.execute(table)
        for sql, values in (
            ("INSERT INTO topic (id, slug, name, sign) VALUES (%s, %s, %s, %s)", TOPICS),
            (INSERT_PERSON, list(_numbered(people(chance)))),
            (INSERT_NOTICE, list(_numbered(notices(chance)))),
            ("INSERT INTO reply (notice_id, person_id, body, written) VALUES (%s, %s, %s, %s)", list(replies(chance))),
        ):
            connection.executemany(sql, values)
            rows += len(values)
    return rows


def _numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """Ids in the rows: not every server generates 1, 2, 3 (a Galera node leaves out those of the other nodes)."""
    return ((*row, number) for number, row in enumerate(rows, 1))


def people(chance: random.Random) -> Iterator[Row]:
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    for name in chance.sample(names, PEOPLE):
        yield name, NOW - timedelta(days=chance.randrange(900, 2500))


def notices(chance: random.Random) -> Iterator[Row]:
    for number in range(1, NOTICES + 1):
        topic = chance.choice(TOPICS)[0]
        filling = {"thing": chance.choice(THINGS[topic]), **_circumstances(chance)}
        title = chance.choice(TITLES[topic]).format(**filling)
        body = " ".join(chance.sample(BODIES, chance.choice((2, 2, 3, 4)))).format(**filling)
        thanks = int(chance.expovariate(0.2))
        yield topic, _regular(chance), title[0].upper() + title[1:], body, thanks, _written(chance, number / NOTICES)


def replies(chance: random.Random) -> Iterator[Row]:
    for number in range(1, REPLIES + 1):
        part = number / REPLIES
        notice = max(1, min(NOTICES, int(part * NOTICES) - chance.randrange(0, 12)))
        body = chance.choice(REPLY_BODIES).format(**_circumstances(chance))
        yield notice, _regular(chance), body, _written(chance, part)


def _circumstances(chance: random.Random) -> dict[str, str]:
    time = f"{chance.choice(('six', 'seven', 'eight', 'half past four'))}"
    return {"place": chance.choice(PLACES), "day": chance.choice(DAYS), "time": time}


def _regular(chance: random.Random) -> int:
    """A person; a few write most."""
    return min(PEOPLE, 1 + int(chance.expovariate(0.03)))


def _written(chance: random.Random, part: float) -> datetime:
    """When what is `part` of the way to now was written: more and more as the years went by."""
    days = 800 * (1 - part) ** 1.1
    return NOW - timedelta(days=days, minutes=chance.randrange(0, 55))


def topics_by_slug(topics: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {topic["slug"]: topic for topic in topics}
