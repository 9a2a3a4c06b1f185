"""Millions of chat messages, nothing indexed by hand, and the questions that a chat's users put; PostgreSQL beside it with indexes made by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks.chat import spool
from benchmarks.chat.messages import BLOCK, Chat
from benchmarks.chat.questions import AFTER_WRITES, FIRST_QUESTIONS, QUESTIONS, Draws, Find, Question, sampled
from benchmarks.chat.stores import AskFailed, PostgresChat, Store, TwinlogChat
from benchmarks.chat.timing import Budget, Execution, Timings, time_all, time_one
from benchmarks.contest import Run, say, started
from benchmarks.generator import LoadFailed
from benchmarks.processes import Server, ServerFailed, drop_page_cache
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import PostgresServer, TwinlogServer
from benchmarks.warmth import kept_warm
from benchmarks.watch import Watch

WHAT = (
    "N chat messages of about 200 bytes with natural word frequencies (benchmarks/chat/messages.py) go in: for Twinlog by insert_many of 1,000, one connection with two requests "
    "outstanding; nothing is declared, but each question is put once after the first messages, so that its fields are indexed while the rest comes. PostgreSQL: one COPY into a table with a jsonb column and a "
    "primary key, then indexes made by hand: btrees on channel, (channel, ts), ts, author, likes and guild, trigrams of the content (gin), ANALYZE. Then the questions, through the wire, by one "
    "connection of one blocking client in Python on each side that reads the answer to its end and decodes its documents; their parameters are drawn anew for every execution out of the messages. "
    "The figure is the median of the executions in milliseconds; `p95 ratio` is Twinlog's 95th percentile over PostgreSQL's. PostgreSQL plans each execution for its parameters. Then each "
    "question again while a process of its own writes 5,000 messages a second (insert_many, or COPY, of 50), and the first two right after 10,000 writes. Memory is PSS of all processes of a server. "
    "`until indexed` ends when everything is sealed and no file of an index changes any more; the last memtable, which no more writes fill, is sealed by its age, 20 seconds here (short: 3), and that is in it. "
    "The files of the server that is asked are kept in the page cache (benchmarks/warmth.py), but for the starts without it. One server after the other; plain connections."
)
OURS, PEER = TwinlogChat.name, PostgresChat.name
BATCH, PACED_BATCH, PACED_RATE = 1_000, 50, 5_000
MARKED_AFTER = 100_000  # messages, after which the questions are put once
WRITES_BEFORE = 10_000  # of one question right after writes
CHECKS = 3  # executions of each question whose answers are compared
BAR_P95_MS, BAR_P50_MS = 15.0, 1.0
LOOK_SECONDS = 1.0
WARM, PACED, AFTER = "warm", f"while {PACED_RATE:,} writes a second go on", f"right after {WRITES_BEFORE:,} writes"
ALL, MORE, STEADY = "all", "more", "paced"  # names of what is spooled
CHECK_SEED, ASK_SEED = 1, 2


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    documents: int
    budget: Budget
    after_rounds: int
    paced_seconds: float  # of messages that are spooled for it
    quiet_s: float  # below 10 s a merge of idle segments may still come, while questions are put
    seal_age_s: int
    starts: int = len(FIRST_QUESTIONS)

    @classmethod
    def of(cls, run: Run) -> Scale:
        documents = run.documents or run.count(short=200_000, long=16_000_000)
        documents -= documents % (BATCH if documents < BLOCK else BLOCK)
        if run.short and documents <= 200_000:
            return cls(max(BATCH, documents), Budget(100, 0.25, 5, 1.0), 5, 20.0, 4.0, 3, starts=1)
        return cls(max(BATCH, documents), Budget(300, 4.0, 20, 20.0), 20, 300.0, 15.0, 20)

    @property
    def rows(self) -> int:
        """Of each block."""
        return min(self.documents, BLOCK)

    @property
    def blocks(self) -> int:
        return max(1, self.documents // BLOCK)

    @property
    def orders(self) -> list[spool.Order]:
        """All messages; those for the writes after which is asked; those that are written meanwhile."""
        more = self.blocks + -(-self.after_rounds * len(AFTER_WRITES) * WRITES_BEFORE // BLOCK)
        paced = more + -(-int(self.paced_seconds * PACED_RATE) // BLOCK)
        return [
            spool.Order(ALL, 0, self.blocks, self.rows, BATCH),
            spool.Order(MORE, self.blocks, more, BLOCK, BATCH),
            spool.Order(STEADY, more, paced, BLOCK, PACED_BATCH),
        ]


@dataclass
class Findings:
    """What was seen, by question of the report or of the chat, and by server."""

    figures: dict[str, dict[str, Sample]] = field(default_factory=dict)
    timings: dict[str, dict[str, dict[str, Timings]]] = field(default_factory=dict)  # phase, question, server
    answers: dict[str, dict[str, object]] = field(default_factory=dict)  # server, question

    def saw(self, question: str, server: str, sample: Sample) -> None:
        self.figures.setdefault(question, {})[server] = sample

    def timed(self, phase: str, question: str, server: str, timings: Timings) -> None:
        self.timings.setdefault(phase, {}).setdefault(question, {})[server] = timings


@dataclass(frozen=True)
class Asker:
    """Puts questions to one store. Draws begin anew with each phase, so that both stores are asked the same."""

    store: Store
    scale: Scale
    chat: Chat
    sample: list
    found: Findings
    case: CaseReport

    def draws(self, seed: int) -> Draws:
        return Draws(self.chat, self.scale.blocks, self.scale.rows, seed, self.sample)

    def execution(self, question: Question, draws: Draws) -> Execution:
        ask, parameters = question.draw(draws)
        return lambda: self.store.run(ask, question.sql, parameters)

    def each(self, phase: str, questions: tuple[Question, ...], work: Callable[[Question, Draws], Timings]) -> None:
        """One after the other; a question that gets no answer is noted and left."""
        for number, question in enumerate(questions):
            try:
                timings = work(question, self.draws(ASK_SEED + number))
            except AskFailed as error:
                self.case.notes.append(f"{phase}: {self.store.name} does not answer `{question.name}`: {error}")
                continue
            self.found.timed(phase, question.name, self.store.name, timings)
            say(f"  {self.store.name} {phase}, {question.name}: p50 {timings.percentile(50):.2f} ms, p95 {timings.percentile(95):.2f} ms of {len(timings.ms)}")

    def all(self, phase: str) -> None:
        self.each(phase, QUESTIONS, lambda question, draws: time_all(lambda: self.execution(question, draws), self.scale.budget))

    def after_writes(self, requests: Iterator[bytes]) -> None:
        def work(question: Question, draws: Draws) -> Timings:
            found = []
            for _ in range(self.scale.after_rounds):
                execution = self.execution(question, draws)
                self.store.write(islice(requests, WRITES_BEFORE // BATCH))
                found.append(time_one(execution))
            return Timings(tuple(found))

        self.each(AFTER, AFTER_WRITES, work)

    def check(self) -> None:
        """Answers to the same executions, for agree()."""
        answers = self.found.answers.setdefault(self.store.name, {})
        for number, question in enumerate(QUESTIONS):
            draws = self.draws(CHECK_SEED + number)
            try:
                asks = [question.draw(draws) for _ in range(CHECKS)]
                answers[question.name] = [ask.figure(self.store.run(ask, question.sql, parameters)) for ask, parameters in asks]  # type: ignore[arg-type]
            except AskFailed:
                continue  # noted when it is timed

    def mark(self) -> None:
        """Every question once."""
        for question in QUESTIONS:
            try:
                self.execution(question, self.draws(CHECK_SEED))()
            except AskFailed as error:
                self.case.notes.append(f"{self.store.name} refuses `{question.name}`: {error}")


def load_twinlog(asker: Asker, store: TwinlogChat, directory: Path) -> tuple[float, float]:
    """Seconds of loading, and from its last answer until all is indexed."""
    requests, total = requests_of(store, directory, ALL), asker.scale.documents
    began = time.monotonic()
    store.write(islice(requests, min(MARKED_AFTER, total // 2) // BATCH))
    took = time.monotonic() - began
    store.wait_sealed()
    asker.mark()
    began = time.monotonic()
    store.write(requests)
    took += time.monotonic() - began
    say(f"  {store.name}: {total / took:,.0f} messages a second")
    return took, store.wait_indexed(asker.scale.quiet_s)


def load_postgres(asker: Asker, store: PostgresChat, directory: Path) -> tuple[float, float]:
    """Seconds of loading, and of making indexes."""
    total = asker.scale.documents
    began = time.monotonic()
    store.load(requests_of(store, directory, ALL))
    took = time.monotonic() - began
    say(f"  {store.name}: {total / took:,.0f} messages a second")
    indexes = store.make_indexes()
    if store.lacks:
        asker.case.notes.append(store.lacks)
    asker.case.notes.append(f"{store.name}'s indexes, seconds each: {', '.join(f'{name} {seconds:.1f}' for name, seconds in indexes.items())}")
    return took, sum(indexes.values())


def load(asker: Asker, directory: Path) -> None:
    """Everything in and indexed."""
    store, found, total = asker.store, asker.found, asker.scale.documents
    cpu = store.server.cpu_seconds()
    with Watch(store.server, LOOK_SECONDS, dict) as watch:
        if isinstance(store, TwinlogChat):
            took, settled = load_twinlog(asker, store, directory)
        else:
            assert isinstance(store, PostgresChat)
            took, settled = load_postgres(asker, store, directory)
    cpu = store.server.cpu_seconds() - cpu
    asker.case.series[f"{store.name} in"] = watch.seen
    found.saw("in", store.name, Sample(total / took, {"seconds": took}))
    found.saw("indexed", store.name, Sample(settled))
    found.saw("in and indexed", store.name, Sample(total / (took + settled), {"server_us": cpu / total * 1e6, "seconds": took + settled}))
    found.saw("memory", store.name, memory_of(watch))
    sizes = store.disk()
    bytes_each = {kind: sizes.get(kind, 0.0) / total for kind in ("data", "index")}
    found.saw("disk", store.name, Sample(sum(bytes_each.values()), {f"{kind}_bytes": size for kind, size in bytes_each.items()}))


def memory_of(watch: Watch) -> Sample:
    return Sample(watch.largest("pss_mb"), {"anonymous": watch.largest("anonymous_mb"), "rss": watch.largest("rss_mb")})


@contextmanager
def paced_writes(store: Store, directory: Path, case: CaseReport) -> Iterator[None]:
    """A process writes while the block runs; what it reached is noted."""
    address = store.server.address  # type: ignore[attr-defined]
    files = [str(path) for path in spool.parts_of(directory, STEADY, store.kind)]
    words = [store.kind, address[0], str(address[1]), str(PACED_RATE), str(PACED_BATCH), *files]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.chat.writer", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "writing":
            raise LoadFailed(f"the writer did not begin: {process.communicate()[1][-500:]}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
    if process.returncode:
        raise LoadFailed(f"the writer failed: {errors[-500:]}")
    done = json.loads(output)
    rate = done["messages"] / done["seconds"]
    spent = "; they ended before the questions did" if done["spent"] else ""
    case.notes.append(
        f"{store.name}: {rate:,.0f} writes a second went on, requests of {PACED_BATCH} answered after {done['p50_ms']:.1f} ms (p50), {done['p99_ms']:.1f} ms (p99){spent}"
    )


def one_store(asker: Asker, directory: Path, *, cold: bool) -> None:
    store = asker.store
    load(asker, directory)
    asker.check()
    with kept_warm(store.server.directory) as warmth:
        asker.case.notes.append(f"{store.name}: {warmth}")
        with Watch(store.server, LOOK_SECONDS, dict) as watch:
            asker.all(WARM)
            note_scans(asker)
            asker.after_writes(requests_of(store, directory, MORE))
            with paced_writes(store, directory, asker.case):
                asker.all(PACED)
        asker.found.saw("memory asked", store.name, memory_of(watch))
        restarts(asker, "page cache warm", lambda: None)
    if cold:
        restarts(asker, "page cache dropped", drop_page_cache)
    store.close()


def requests_of(store: Store, directory: Path, name: str) -> Iterator[bytes]:
    paths = spool.parts_of(directory, name, store.kind)
    return spool.frames_in(paths) if store.kind == spool.FRAMES else spool.copies_in(paths)


def note_scans(asker: Asker) -> None:
    """Which finds Twinlog answers by looking at every document."""
    if not isinstance(asker.store, TwinlogChat):
        return
    scans = []
    for question in QUESTIONS:
        ask, _ = question.draw(asker.draws(CHECK_SEED))
        if isinstance(ask, Find) and asker.store.stage(ask) == "COLLSCAN":
            scans.append(question.name)
    asker.case.notes.append(f"{asker.store.name} scans every document for: {', '.join(scans)}" if scans else f"{asker.store.name} answers every find by index")


def restarts(asker: Asker, cache: str, drop: Callable[[], None]) -> None:
    """For each of some questions a start of its own: how long from the start to its answer, and how long the answer alone took."""
    store = asker.store
    for question in FIRST_QUESTIONS[: asker.scale.starts]:
        execution = asker.execution(question, asker.draws(ASK_SEED))
        store.close()
        store.server.stop()
        drop()
        began = time.monotonic()
        store.server.start()  # type: ignore[call-arg]
        store.open()
        alone = time_one(execution)
        took = (time.monotonic() - began) * 1000
        asker.found.saw(f"restart: {question.name}, {cache}", store.name, Sample(took, {"answer_ms": alone}))
        say(f"  {store.name} started, {cache}, {question.name}: {took:,.0f} ms from the start, {alone:,.1f} ms of it the answer")


MEASURES = (
    ("in", "in", "messages per second"),
    ("indexed", "from the last answer until indexed", "seconds"),
    ("in and indexed", "in and indexed", "messages per second"),
    ("memory", "largest memory while they go in and are indexed", "MB"),
    ("memory asked", "largest memory while questions are put", "MB"),
    ("disk", "on the disk when indexed, without the log", "bytes a message"),
)


def report(case: CaseReport, documents: int, found: Findings) -> None:
    for key, question, unit in MEASURES:
        rows = [Row(name, (PEER,) if name == OURS else (), [sample]) for name, sample in found.figures.get(key, {}).items()]
        case.measures.append(Measure(f"{documents:,} messages, {question}", unit, rows, higher_is_better=unit == "messages per second"))
    for phase in (WARM, AFTER, PACED):
        rows = [row for question, servers in found.timings.get(phase, {}).items() for row in question_rows(question, servers)]
        case.measures.append(Measure(f"{documents:,} messages, answers, {phase}", "ms", rows, higher_is_better=False))
        if bars := over_bars(found.timings.get(phase, {})):
            case.notes.append(f"{phase}: {bars}")
    starts = {key: samples for key, samples in found.figures.items() if key.startswith("restart: ")}
    rows = [
        Row(f"{name}: {key.removeprefix('restart: ')}", (f"{PEER}: {key.removeprefix('restart: ')}",) if name == OURS and PEER in samples else (), [sample])
        for key, samples in starts.items() for name, sample in samples.items()
    ]  # fmt: skip
    case.measures.append(Measure(f"{documents:,} messages, from the start of the process to the first answer", "ms", rows, higher_is_better=False))
    case.notes += agree(found.answers)


def question_rows(question: str, servers: dict[str, Timings]) -> Iterator[Row]:
    for name, timings in servers.items():
        extras = {f"p{share}_us": timings.percentile(share) * 1000 for share in (95, 99)}
        extras["executions"] = float(len(timings.ms))
        peer = servers.get(PEER)
        if name == OURS and peer is not None:
            extras["p95_ratio"] = timings.percentile(95) / peer.percentile(95)
        yield Row(f"{name}: {question}", (f"{PEER}: {question}",) if name == OURS and peer is not None else (), [Sample(timings.percentile(50), extras)])


def over_bars(questions: dict[str, dict[str, Timings]]) -> str:
    """Twinlog's questions that take too long."""
    ours = {question: servers[OURS] for question, servers in questions.items() if OURS in servers}
    slow = [f"{question} ({timings.percentile(95):.1f})" for question, timings in ours.items() if timings.percentile(95) > BAR_P95_MS]
    quick = sum(timings.percentile(50) < BAR_P50_MS for timings in ours.values())
    if not ours:
        return ""
    return f"{quick} of {len(ours)} questions under {BAR_P50_MS:g} ms at p50; over {BAR_P95_MS:g} ms at p95: {', '.join(slow) or 'none'}"


def agree(answers: dict[str, dict[str, object]]) -> list[str]:
    if set(answers) != {OURS, PEER}:
        return []
    both = [name for name in answers[OURS] if name in answers[PEER]]
    different = [name for name in both if answers[OURS][name] != answers[PEER][name]]
    if different:
        return [f"**the answers differ**: {', '.join(different)}"]
    return [f"both gave the same answers to {CHECKS} executions of each of {len(both)} questions"]


def measure(run: Run, case: CaseReport) -> None:
    at_scale(Scale.of(run), run, case)


def at_scale(scale: Scale, run: Run, case: CaseReport) -> None:
    chat, found = Chat(), Findings()
    makers: list[tuple[Callable[[Path], Server], Callable[[Server], Store]]] = [
        (lambda directory: TwinlogServer(directory / "twinlog", seal_age_s=scale.seal_age_s), TwinlogChat),
        (lambda directory: PostgresServer(directory / "postgres"), PostgresChat),
    ]  # type: ignore[list-item]
    sample = sampled(chat, scale.blocks, scale.rows)
    for make, store_of in makers:
        with run.directory() as directory, started(case, lambda make=make, directory=directory: make(directory)) as (server,):
            if server is None:
                continue
            messages = directory / "messages"
            messages.mkdir()
            began = time.monotonic()
            try:
                spool.make(messages, store_of.kind, scale.orders)  # type: ignore[attr-defined]
                say(f"  the messages for {server.name} took {time.monotonic() - began:.0f} s to make")
                one_store(Asker(store_of(server), scale, chat, sample, found, case), messages, cold=run.cold)
            except (LoadFailed, ServerFailed) as error:
                case.notes.append(f"{server.name} failed: {error}")
    report(case, scale.documents, found)
