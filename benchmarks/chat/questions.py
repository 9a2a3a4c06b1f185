"""What is asked of a chat: each question as Twinlog's client takes it and as SQL, with parameters drawn anew for every execution.

Parameters come from a sample of the messages themselves: a channel is drawn as often as people write in it, two words stand behind each other in
some message. So answers are of natural sizes, and no answer is asked for twice in a row. An Ask is one execution; `figure` turns either server's answer into a plain value,
equal on both where the answer is exactly defined: all of it for counts and groups, the values sorted by for a sorted find, and how many for one that is not sorted.

Pure but for its random numbers, which come from a seed; knows no server.
"""

from __future__ import annotations

import datetime
import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import Block, Chat
from .words import ABSENT_LETTERS, WORDS

LIMIT = 50
AUTHORS = 100
SAMPLE_ROWS, SAMPLE_BLOCKS = 4_000, 6
RANGE_ROWS = 1_000_000
RARE_FROM = WORDS * 2 // 3  # ranks
COMMON_TO = 20
PREFIX_RANKS = (100, 2_000)
LONG_WORD = 8  # letters, of a word out of whose middle a substring is taken
SUBSTRING = 5
EPOCH = datetime.datetime(1970, 1, 1)

Document = Mapping[str, Any]
Filter = dict[str, Any]


def moment(milliseconds: int) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=milliseconds)


def milliseconds(value: object) -> object:
    """A date-time as the number that PostgreSQL's documents have; anything else as it is."""
    return (value - EPOCH) // datetime.timedelta(milliseconds=1) if isinstance(value, datetime.datetime) else value


@dataclass(frozen=True)
class Find:
    """Up to limit documents. newest: the field by which they are sorted, falling; "" for none."""

    filter: Filter
    newest: str = ""
    limit: int = LIMIT

    def run(self, collection: Any) -> list[Document]:
        cursor = collection.find(self.filter, batch_size=self.limit).limit(self.limit)
        return list(cursor.sort(self.newest, -1) if self.newest else cursor)

    def read(self, rows: Sequence[tuple[bytes | None, ...]], decode: Callable[[bytes], Any]) -> list[Document]:
        return [decode(row[0] or b"") for row in rows]

    def figure(self, answer: list[Document]) -> object:
        return [milliseconds(document[self.newest]) for document in answer] if self.newest else len(answer)


@dataclass(frozen=True)
class Count:
    """How many documents match."""

    filter: Filter

    def run(self, collection: Any) -> int:
        return collection.count_documents(self.filter)

    def read(self, rows: Sequence[tuple[bytes | None, ...]], decode: Callable[[bytes], Any]) -> int:
        return decode(rows[0][0] or b"")

    def figure(self, answer: int) -> object:
        return answer


@dataclass(frozen=True)
class Group:
    """Per channel how many messages, and with likes how often they were liked."""

    filter: Filter
    likes: bool = False

    @property
    def pipeline(self) -> list[dict[str, Any]]:
        sums: dict[str, Any] = {"n": {"$sum": 1}, **({"likes": {"$sum": "$likes"}} if self.likes else {})}
        return [*([{"$match": self.filter}] if self.filter else []), {"$group": {"_id": "$channel", **sums}}]

    def run(self, collection: Any) -> list[tuple[Any, ...]]:
        return [tuple(group.values()) for group in collection.aggregate(self.pipeline, batchSize=5_000)]

    def read(self, rows: Sequence[tuple[bytes | None, ...]], decode: Callable[[bytes], Any]) -> list[tuple[Any, ...]]:
        return [((row[0] or b"").decode(), *(decode(value or b"") for value in row[1:])) for row in rows]

    def figure(self, answer: list[tuple[Any, ...]]) -> object:
        return sorted(answer)


@dataclass(frozen=True)
class Distinct:
    """All channels that occur."""

    path: str = "channel"

    def run(self, collection: Any) -> list[str]:
        return collection.distinct(self.path)

    def read(self, rows: Sequence[tuple[bytes | None, ...]], decode: Callable[[bytes], Any]) -> list[str]:
        return [(row[0] or b"").decode() for row in rows]

    def figure(self, answer: list[str]) -> object:
        return sorted(answer)


Ask = Find | Count | Group | Distinct


class Draws:
    """Parameters out of a sample of the messages, by a seed: the same seed asks both servers the same."""

    def __init__(self, chat: Chat, blocks: int, rows: int, seed: int, sample: list[Document] | None = None) -> None:
        self.rng = random.Random(seed)
        self.messages = len(range(blocks)) * rows
        self.sample = sample if sample is not None else sampled(chat, blocks, rows)
        self._words = chat.vocabulary.words
        self._long = [word for word in self._words[:20_000] if len(word) >= LONG_WORD and word.isascii()]
        first, last = min(self.sample, key=ts_of), max(self.sample, key=ts_of)
        self.first_ts, self.last_ts = ts_of(first), ts_of(last)

    def message(self) -> Document:
        return self.rng.choice(self.sample)

    def rare(self) -> str:
        return self._words[self.rng.randrange(RARE_FROM, WORDS)]

    def common(self) -> str:
        return self._words[self.rng.randrange(COMMON_TO)]

    def opening(self) -> str:
        return self._words[self.rng.randrange(*PREFIX_RANKS)].capitalize()

    def middle(self) -> str:
        word = self.rng.choice(self._long)
        at = self.rng.randrange(1, len(word) - SUBSTRING)
        return word[at : at + SUBSTRING]

    def pair(self) -> str:
        """Two words that stand behind each other in some message, with nothing but a blank between them."""
        while True:
            words = self.message()["content"].split(" ")
            at = self.rng.randrange(len(words))
            if at + 1 < len(words) and words[at].isalpha() and words[at + 1].isalpha():
                return f"{words[at]} {words[at + 1]}"

    def absent(self) -> str:
        return self.rng.choice(ABSENT_LETTERS) + "".join(self.rng.choices(string.ascii_lowercase, k=5))

    def letters(self) -> str:
        word = self.rng.choice(self._words[:5_000])
        at = self.rng.randrange(len(word) - 1)
        return word[at : at + 2]

    def span(self, share: float) -> tuple[int, int]:
        """A range of times that holds about that share of the messages."""
        length = int((self.last_ts - self.first_ts) * min(share, 1.0))
        begin = self.first_ts + self.rng.randrange(max(1, self.last_ts - self.first_ts - length))
        return begin, begin + length


def ts_of(message: Document) -> int:
    return message["ts"]


def sampled(chat: Chat, blocks: int, rows: int) -> list[Document]:
    """Messages out of some blocks that stand evenly among all; dates in milliseconds."""
    chosen = sorted({number * (blocks - 1) // max(1, SAMPLE_BLOCKS - 1) for number in range(SAMPLE_BLOCKS)})
    step = max(1, rows * len(chosen) // SAMPLE_ROWS)
    return [message for number in chosen for message in of_block(chat.block(number))[:rows:step]]


def of_block(block: Block) -> list[Document]:
    return block.documents(int)


@dataclass(frozen=True)
class Question:
    """draw: the ask, and the parameters of the SQL."""

    name: str
    sql: str
    draw: Callable[[Draws], tuple[Ask, tuple[str, ...]]]


TS, AUTHOR, GUILD, LIKES = (f"((doc->>'{field}')::bigint)" for field in ("ts", "author", "guild", "likes"))
BY_CHANNEL = "select doc from docs where doc->>'channel' = $1"
IN_RANGE = f"{TS} >= $1 and {TS} < $2"
BY_TEXT = f"select doc from docs where doc->>'content' ~ $1 limit {LIMIT}"


def _channel(newest: str = "") -> Callable[[Draws], tuple[Ask, tuple[str, ...]]]:
    def draw(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
        channel = draws.message()["channel"]
        return Find({"channel": channel}, newest), (channel,)

    return draw


def _in_range(make: Callable[[Filter], Ask], share: Callable[[Draws], float]) -> Callable[[Draws], tuple[Ask, tuple[str, ...]]]:
    def draw(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
        begin, end = draws.span(share(draws))
        return make({"ts": {"$gte": moment(begin), "$lt": moment(end)}}), (str(begin), str(end))

    return draw


def _text(pattern: Callable[[Draws], str]) -> Callable[[Draws], tuple[Ask, tuple[str, ...]]]:
    def draw(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
        regex = pattern(draws)
        return Find({"content": {"$regex": regex}}), (regex,)

    return draw


def _two_fields(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
    message = draws.message()
    return Count({"channel": message["channel"], "author": message["author"]}), (message["channel"], str(message["author"]))


def _authors(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
    authors = [draws.message()["author"] for _ in range(AUTHORS)]
    return Find({"author": {"$in": authors}}), ("{" + ",".join(map(str, authors)) + "}",)


def _guild(draws: Draws) -> tuple[Ask, tuple[str, ...]]:
    guild = draws.message()["guild"]
    return Group({"guild": guild}), (str(guild),)


def _million(draws: Draws) -> float:
    return min(0.5, RANGE_ROWS / draws.messages)


CHANNEL_NEWEST = Question("channel, newest 50", f"{BY_CHANNEL} order by {TS} desc limit {LIMIT}", _channel("ts"))
RARE_WORD = Question("regex, rare word", BY_TEXT, _text(Draws.rare))
GROUP_ALL = Question(
    "group by channel, all", "select doc->>'channel', count(*) from docs group by 1", lambda draws: (Group({}), ())
)
QUESTIONS = (
    Question("channel, any 50", f"{BY_CHANNEL} limit {LIMIT}", _channel()),
    CHANNEL_NEWEST,
    Question("channel, most liked 50", f"{BY_CHANNEL} order by {LIKES} desc limit {LIMIT}", _channel("likes")),
    Question(
        "time range, newest 50", f"select doc from docs where {IN_RANGE} order by {TS} desc limit {LIMIT}",
        _in_range(lambda filter: Find(filter, "ts"), lambda draws: draws.rng.uniform(0.001, 0.1)),
    ),
    Question("time range, count", f"select count(*) from docs where {IN_RANGE}", _in_range(Count, lambda draws: draws.rng.uniform(0.001, 0.1))),
    Question("channel and author, count", f"select count(*) from docs where doc->>'channel' = $1 and {AUTHOR} = $2", _two_fields),
    Question(f"any of {AUTHORS} authors, 50", f"select doc from docs where {AUTHOR} = any($1::bigint[]) limit {LIMIT}", _authors),
    RARE_WORD,
    Question("regex, common word", BY_TEXT, _text(Draws.common)),
    Question("regex, prefix", BY_TEXT, _text(lambda draws: "^" + draws.opening())),
    Question("regex, substring", BY_TEXT, _text(Draws.middle)),
    Question("regex, two words", BY_TEXT, _text(Draws.pair)),
    Question("regex, no match", BY_TEXT, _text(Draws.absent)),
    Question("regex, two letters", BY_TEXT, _text(Draws.letters)),
    GROUP_ALL,
    Question(
        "group by channel, a million rows of time", f"select doc->>'channel', count(*), sum({LIKES}) from docs where {IN_RANGE} group by 1",
        _in_range(lambda filter: Group(filter, likes=True), _million),
    ),
    Question("group by channel, one guild", f"select doc->>'channel', count(*) from docs where {GUILD} = $1 group by 1", _guild),
    Question("distinct channels", "select distinct doc->>'channel' from docs", lambda draws: (Distinct(), ())),
)  # fmt: skip
FIRST_QUESTIONS = (CHANNEL_NEWEST, RARE_WORD, GROUP_ALL)  # after a start
AFTER_WRITES = (CHANNEL_NEWEST, RARE_WORD)
