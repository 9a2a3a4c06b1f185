"""Messages of a chat, in blocks of 100,000, each block a function of the seed and its number: none needs the one before.

    _id          ascending, int64 as chats make them: milliseconds, shifted by 22, and a counter below
    author       one of 500,000, the n-th with a share of about 1/n, as are the channels
    channel      one of 2,000 names; each belongs to one of 200 guilds
    guild        int
    ts           date-time, ascending but in one of 100, which was under way for up to five seconds
    content      15 words on average (lognormal), natural frequencies; sentences, marks, names with @, numbers; a URL in one of 40
    flags        small int, mostly 0
    likes        int, geometric
    edited       date-time, in 4 of 100
    reply_to     an earlier _id, in 10 of 100
    attachments  one to three small maps, in 3 of 100

About 200 bytes of MessagePack each. Cost: some 5 µs a message on one core, of which half is columns (numpy) and half the making of dicts. Knows
no server; what dates become is told by who encodes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from .words import (
    CAPITALISED,
    COMMA,
    FIRST_NAME,
    FIRST_NUMBER,
    FULL_STOP,
    MARKS,
    NAMES,
    NUMBERS,
    WORDS,
    Vocabulary,
    vocabulary,
    zipf,
)

SEED = 20_260
BLOCK = 100_000
USERS, CHANNELS, GUILDS = 500_000, 2_000, 200
BEGAN_MS = 1_700_000_000_000
ID_EPOCH_MS = 1_420_070_400_000  # from which the milliseconds in an _id count
ID_SHIFT = 22
GAP_MS = 500  # between two messages, on average
LATE_SHARE, LATE_MS = 0.01, 5_000
WORDS_MEAN, WORDS_SIGMA, WORDS_MAX = 15.0, 0.7, 120
NAME_SHARE, NUMBER_SHARE = 0.012, 0.012
SENTENCE_SHARE, COMMA_SHARE, CAPITAL_SHARE, MARKED_END_SHARE = 0.08, 0.06, 0.7, 0.4
URL_SHARE, EDITED_SHARE, REPLY_SHARE, ATTACHED_SHARE = 0.025, 0.04, 0.10, 0.03
FLAGS, FLAG_SHARES = (0, 1, 2, 4, 8, 16, 64), (0.86, 0.05, 0.03, 0.03, 0.01, 0.01, 0.01)
LIKED = 0.4  # of the geometric distribution
KINDS = (("png", "image/png"), ("jpg", "image/jpeg"), ("gif", "image/gif"), ("mp4", "video/mp4"), ("pdf", "application/pdf"))
DATE_CODE = 1  # the extension type of date-times in stored documents

Date = Callable[[int], object]  # of milliseconds


def packed_date(milliseconds: int) -> msgspec.msgpack.Ext:
    """As Twinlog stores it."""
    return msgspec.msgpack.Ext(DATE_CODE, struct.pack(">q", milliseconds))


@dataclass(frozen=True)
class Block:
    """One block as columns. optional: field to (row, value) of the messages that have it; dates among them in milliseconds."""

    ids: np.ndarray
    authors: np.ndarray
    channels: np.ndarray  # numbers
    ts: np.ndarray
    contents: list[str]
    flags: np.ndarray
    likes: np.ndarray
    edited: np.ndarray  # rows
    edited_ts: np.ndarray
    replies: np.ndarray  # rows
    replied: np.ndarray  # ids
    attachments: list[tuple[int, list[dict[str, object]]]]
    channel_names: list[str] = field(repr=False)
    channel_guilds: list[int] = field(repr=False)

    def documents(self, date: Date) -> list[dict[str, object]]:
        names, guilds = self.channel_names, self.channel_guilds
        found: list[dict[str, object]] = [
            {"_id": id, "author": author, "channel": names[channel], "guild": guilds[channel], "ts": ts, "content": content, "flags": flags, "likes": likes}
            for id, author, channel, ts, content, flags, likes in zip(
                self.ids.tolist(), self.authors.tolist(), self.channels.tolist(), map(date, self.ts.tolist()), self.contents,
                self.flags.tolist(), self.likes.tolist(), strict=True,
            )
        ]  # fmt: skip
        for row, moment in zip(self.edited.tolist(), self.edited_ts.tolist(), strict=True):
            found[row]["edited"] = date(moment)
        for row, other in zip(self.replies.tolist(), self.replied.tolist(), strict=True):
            found[row]["reply_to"] = other
        for row, attached in self.attachments:
            found[row]["attachments"] = attached
        return found


@dataclass(frozen=True)
class Chat:
    """Everything that the blocks share: words, users, channels."""

    seed: int = SEED

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return vocabulary(self.seed)

    @cached_property
    def channel_names(self) -> list[str]:
        rng = np.random.default_rng([self.seed, 2])
        ranks = rng.choice(WORDS // 10, CHANNELS, replace=False).tolist()
        return [f"{self.vocabulary.words[rank]}-{number}" for number, rank in enumerate(ranks)]

    @cached_property
    def channel_guilds(self) -> list[int]:
        """Guilds have channels of all sizes, so the large ones are spread."""
        return (np.random.default_rng([self.seed, 3]).permutation(CHANNELS) % GUILDS).tolist()

    @cached_property
    def _users(self) -> np.ndarray:
        """The number of the n-th most talkative user: who they are does not tell how much they write."""
        return np.random.default_rng([self.seed, 4]).permutation(USERS).astype(np.int64) + 1_000

    @cached_property
    def _talk(self) -> np.ndarray:
        return np.cumsum(zipf(USERS, 20.0))

    @cached_property
    def _traffic(self) -> np.ndarray:
        return np.cumsum(zipf(CHANNELS, 5.0))

    def block(self, number: int) -> Block:
        rng = np.random.default_rng([self.seed, 5, number])
        moments = np.sort(rng.integers(0, BLOCK * (GAP_MS - 1), BLOCK)) + np.arange(BLOCK) + (BEGAN_MS + number * BLOCK * GAP_MS)
        ids = (moments - ID_EPOCH_MS << ID_SHIFT) | (np.arange(BLOCK) & 0xFFF)
        late = np.where(rng.random(BLOCK) < LATE_SHARE, rng.integers(1, LATE_MS, BLOCK), 0)
        authors = self._users[np.searchsorted(self._talk, rng.random(BLOCK)).clip(max=USERS - 1)]
        channels = np.searchsorted(self._traffic, rng.random(BLOCK)).clip(max=CHANNELS - 1)
        flags, likes = rng.choice(FLAGS, BLOCK, p=FLAG_SHARES), rng.geometric(LIKED, BLOCK) - 1
        edited = np.flatnonzero(rng.random(BLOCK) < EDITED_SHARE)
        edited_ts = moments[edited] + rng.integers(2_000, 600_000, len(edited))
        replies = np.flatnonzero(rng.random(BLOCK) < REPLY_SHARE)
        replied = replies - rng.geometric(0.02, len(replies))
        replies, replied = replies[replied >= 0], replied[replied >= 0]
        attachments = self._attachments(rng)
        contents = self._contents(rng)
        return Block(
            ids, authors, channels, moments - late, contents, flags, likes, edited, edited_ts, replies, ids[replied], attachments,
            self.channel_names, self.channel_guilds,
        )  # fmt: skip

    def _attachments(self, rng: np.random.Generator) -> list[tuple[int, list[dict[str, object]]]]:
        having = np.flatnonzero(rng.random(BLOCK) < ATTACHED_SHARE)
        words = self.vocabulary.words
        found: list[tuple[int, list[dict[str, object]]]] = []
        for row, count, rank, kind, size in zip(
            having.tolist(), rng.choice((1, 2, 3), len(having), p=(0.85, 0.1, 0.05)).tolist(), rng.integers(0, WORDS, len(having)).tolist(),
            rng.integers(0, len(KINDS), len(having)).tolist(), (10 ** rng.uniform(3, 6.7, len(having))).astype(int).tolist(), strict=True,
        ):  # fmt: skip
            ending, kind_name = KINDS[kind]
            found.append((row, [{"name": f"{words[rank]}{number}.{ending}", "kind": kind_name, "bytes": size + number} for number in range(count)]))
        return found

    def _contents(self, rng: np.random.Generator) -> list[str]:
        mean = np.log(WORDS_MEAN) - WORDS_SIGMA**2 / 2
        lengths = np.rint(rng.lognormal(mean, WORDS_SIGMA, BLOCK)).astype(np.int64).clip(1, WORDS_MAX)
        ends = np.cumsum(lengths)
        texts = self.vocabulary.table[self._tokens(rng, lengths, ends)].tolist()
        join = " ".join
        begins = (ends - lengths).tolist()
        found = [join(texts[begin:end]) for begin, end in zip(begins, ends.tolist(), strict=True)]
        with_url = np.flatnonzero(rng.random(BLOCK) < URL_SHARE)
        words = self.vocabulary.words
        for row, first, second, tag in zip(with_url.tolist(), *rng.integers(0, [5_000, WORDS, 2**32], (len(with_url), 3)).T.tolist(), strict=True):
            found[row] += f" https://{words[first]}.example/{words[second]}/{tag:08x}"
        return found

    def _tokens(self, rng: np.random.Generator, lengths: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Indexes into the vocabulary's table, of all messages one behind the other."""
        total = int(ends[-1])
        ranks, marked = self.vocabulary.draw(rng, total), rng.random(total, np.float32)
        is_last = np.zeros(total, np.bool_)
        is_last[ends - 1] = True
        ends_sentence = marked < np.where(is_last, MARKED_END_SHARE, SENTENCE_SHARE).astype(np.float32)
        form = np.where(ends_sentence, FULL_STOP + (rng.random(total, np.float32) ** 2 * (len(MARKS) - FULL_STOP)).astype(np.int64), 0)
        form[~is_last & (marked > 1 - COMMA_SHARE)] = COMMA
        begins = np.empty(total, np.bool_)
        begins[0] = True
        begins[1:] = ends_sentence[:-1] | is_last[:-1]
        form[begins & (rng.random(total, np.float32) < CAPITAL_SHARE)] += CAPITALISED
        tokens = form * WORDS + ranks
        other = rng.random(total, np.float32)
        names, numbers = np.flatnonzero(other < NAME_SHARE), np.flatnonzero(other > 1 - NUMBER_SHARE)
        tokens[names] = FIRST_NAME + rng.integers(0, NAMES, len(names))
        tokens[numbers] = FIRST_NUMBER + rng.integers(0, NUMBERS, len(numbers))
        return tokens
