"""docs/queries.md shows queries over the real mongoexport files with their results. Three must agree on each of them: the page, the database,
and a few lines of plain Python over the file's JSON, which know nothing of either."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import twinlog
from storage import read_documents
from tests.ends.test_real_data import FILES, SHARED
from tests.values.generated import same

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
ENTRY = re.compile(r"^### (\d+)\. (.+?)$\n+```python\n(.+?)\n```\n+Result: `(.+?)`$\n+By hand: ", re.MULTILINE | re.DOTALL)

Files = Callable[[str], list[dict]]


class Query(NamedTuple):
    number: int
    title: str
    code: str
    result: object


def documented() -> list[Query]:
    found = ENTRY.findall(PAGE.read_text(encoding="utf-8"))
    return [Query(int(number), title, code, ast.literal_eval(result)) for number, title, code, result in found]


def run(code: str, db: twinlog.Database) -> object:
    """The value of the last line, after the others."""
    names = {"db": db, "datetime": datetime}
    *statements, last = ast.parse(code).body
    exec(compile(ast.Module(statements, []), "docs/queries.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "docs/queries.md", "eval"), names)


@cache
def lines(name: str) -> list[dict]:
    with (SHARED / "data" / "mongoexport" / f"{name}.json").open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twinlog.Database]:
    with twinlog.open(tmp_path_factory.mktemp("documented")) as client:
        for file in FILES:
            with file.open("rb") as stream:
                client["files"][file.stem].insert_many([document for _, document in read_documents(stream)])
        yield client["files"]


def test_every_query_is_numbered_and_checked() -> None:
    numbers = [query.number for query in documented()]
    assert numbers == list(range(1, len(numbers) + 1)) == sorted(BY_HAND)
    assert len(numbers) >= 25
    headings = re.findall(r"^### \d+\.", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) == len(numbers), "an entry does not have the form of the others"


@pytest.mark.skipif(not FILES, reason=f"no mongoexport files below {SHARED}; set TWINLOG_SHARED")
@pytest.mark.parametrize("query", documented(), ids=lambda query: str(query.number))
def test_page_database_and_plain_python_agree(query: Query, db: twinlog.Database) -> None:
    assert same(query.result, BY_HAND[query.number](lines)), "the page and plain Python over the file"
    if "update" in query.code:
        db = copied(db, f"files{query.number}", set(re.findall(r'db\["(.+?)"\]', query.code)))
    found = run(query.code, db)
    assert same(found, query.result), f"the database says {found}"


def copied(db: twinlog.Database, name: str, collections: set[str]) -> twinlog.Database:
    """For a query that writes: it leaves the others their data."""
    for collection in collections:
        db.client[name][collection].insert_many(list(db[collection].find()))
    return db.client[name]


# By hand: what each query means, over the lines of the file. Numbers are the page's.


def has(value: object, wanted: object) -> bool:
    return value == wanted or isinstance(value, list) and wanted in value


def names(rows: list[dict]) -> list[str]:
    return [row["name"] for row in rows]


def countries(rows: list[dict]) -> list[str]:
    return [row["name"]["common"] for row in rows]


def one(rows: list[dict], field: str, value: object) -> dict:
    return next(row for row in rows if row[field] == value)


def exam_or_high(files: Files) -> list[int]:
    same = [row for row in files("grades") if any(s["type"] == "exam" and s["score"] > 95 for s in row["scores"])]
    exams = [row for row in files("grades") if any(s["type"] == "exam" for s in row["scores"])]
    return [len(same), len([row for row in exams if any(s["score"] > 95 for s in row["scores"])])]


def pizza_or_good(files: Files) -> list[int]:
    facts = [
        (row["type_of_food"] == "Pizza", not isinstance(row["rating"], str) and row["rating"] >= 5.5)
        for row in files("restaurant")
    ]
    return [sum(map(all, facts)), sum(map(any, facts)), len([fact for fact in facts if not any(fact)])]


def late_books(files: Files) -> list[str]:
    dated = [(row["publishedDate"]["$date"], row["title"]) for row in files("books") if "publishedDate" in row]
    instants = [(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z"), title) for text, title in dated]
    bound = datetime.fromisoformat("2014-05-01T00:00:00+00:00")
    return [title for instant, title in sorted(instants, reverse=True) if instant >= bound]


def projections(files: Files) -> list[dict]:
    student, che, phone = one(files("students"), "_id", 0), one(files("countries-small"), "cca3", "CHE"), one(files("products"), "_id", "ac3")
    quiz = [score for score in student["scores"] if score["type"] == "quiz"][:1]
    rest = {name: value for name, value in phone.items() if name not in ("price", "rating", "warranty_years")}
    return [{"_id": 0, "scores": quiz}, {"borders": che["borders"][-2:], "name": {"common": che["name"]["common"]}}, rest]


def distinct(files: Files) -> list:
    kinds: set[str] = set()
    for row in files("products"):
        kinds |= set(row["type"]) if isinstance(row["type"], list) else {row["type"]}
    return [sorted({row["region"] for row in files("countries-small")}), sorted(kinds), len({row["book_id"] for row in files("covers")})]


def regions(files: Files) -> list[dict]:
    counts = Counter(row["region"] for row in files("countries-small"))
    return [
        {"_id": region, "countries": n, "largest": max(r["area"] for r in files("countries-small") if r["region"] == region)}
        for region, n in counts.most_common(2)
    ]


def best_classes(files: Files) -> list[dict]:
    exams: dict[int, list[float]] = {}
    for row in files("grades"):
        for score in row["scores"]:
            if score["type"] == "exam":
                exams.setdefault(row["class_id"], []).append(score["score"])
    found = [{"_id": number, "n": len(all_), "mean": round(sum(all_) / len(all_), 3)} for number, all_ in exams.items()]
    return sorted(found, key=lambda group: -group["mean"])[:2]


def pages(files: Files) -> list[dict]:
    kinds: dict[object, list[int]] = {}
    for row in files("books"):
        n = row["pageCount"]
        kinds.setdefault("more" if n >= 600 else 300 if n >= 300 else 1 if n else 0, []).append(n)
    return [{"_id": key, "n": len(kinds[key]), "most": max(kinds[key])} for key in (0, 1, 300, "more")]


def north(files: Files) -> list[dict]:
    kinds = Counter(row["type_of_food"] for row in files("restaurant") if row["outcode"] == "N1")
    [(kind, n)] = kinds.most_common(1)
    return [{"all": [{"n": sum(kinds.values())}], "kinds": [{"_id": kind, "count": n}]}]


def fitting(files: Files) -> list[dict]:
    found = []
    for phone in (row for row in files("products") if row["type"] == "phone"):
        parts = [{"name": row["name"]} for row in files("products") if has(row.get("for"), phone["_id"])]
        found.append({"_id": phone["_id"], "fitting": parts, "n": len(parts)})
    return found


def labels(files: Files) -> list[dict]:
    found = []
    for row in files("countries-small"):
        if row["cca3"] in ("CHE", "JPN"):
            near = row["borders"][0] if row["borders"] else "the sea"
            label = f"{row['name']['common'].upper()} / {row['capital']}"
            found.append({"label": label, "near": near, "money": row["currency"][-1]})
    return found


def voices(files: Files) -> list[dict]:
    plans = [row for row in files("products") if "limits" in row]
    return [{"units": row["limits"]["voice"]["units"], "n": row["limits"]["voice"]["n"], "plan": row["name"]} for row in plans]


def students_and_phones(files: Files) -> list[dict]:
    rows = [row for row in files("students") if row["_id"] < 2] + [row for row in files("products") if row.get("brand") == "ACME"]
    return [{"_id": row["_id"], "name": row["name"]} for row in rows]


def sorted_scores(files: Files) -> list[dict]:
    exam, quiz, homework = one(files("students"), "_id", 1)["scores"]
    kept = sorted([exam, quiz, homework, {"type": "oral", "score": 1}], key=lambda score: score["score"])[:3]
    low, second, third = ({**s, "score": 50} if s["type"] == "quiz" else s for s in kept)
    return [{**low, "score": max(10, low["score"])}, second, third]


def switzerland(files: Files) -> list:
    row = one(files("countries-small"), "cca3", "CHE")
    money = row["currency"] + [name for name in ("CHF", "EUR") if name not in row["currency"]]
    return [money, [name for name in row["borders"] if name not in ("FRA", "DEU")], len(row["latlng"]) - 1, row["cca2"], False]


BY_HAND: dict[int, Callable[[Files], object]] = {
    1: lambda f: sum(row["type_of_food"] == "Thai" for row in f("restaurant")),
    2: lambda f: names(sorted([row for row in f("products") if has(row["type"], "case")], key=lambda row: row["price"])),
    3: lambda f: names([row for row in f("products") if has(row.get("for"), "ac3")]),
    4: lambda f: next(row["capital"] for row in f("countries-small") if row["name"]["common"] == "Japan"),
    5: lambda f: countries([row for row in f("countries-small") if row["latlng"] and row["latlng"][0] > 65]),
    6: lambda f: [
        sum(not isinstance(row["rating"], str) and row["rating"] >= 5.5 for row in f("restaurant")),
        sum(isinstance(row["rating"], str) and row["rating"] >= "0" for row in f("restaurant")),
    ],
    7: lambda f: sum(row.get("color") != "red" for row in f("products")),
    8: lambda f: names([row for row in f("products") if "price" not in row]),
    9: lambda f: [sum("isbn" in row for row in f("books")), sum("isbn" not in row for row in f("books"))],
    10: lambda f: [
        sum(isinstance(row.get("\ufeffISO"), kind) for row in f("countries-big")) for kind in (int, str, (int, float), list)
    ],
    11: lambda f: [sum((row["class_id"] in (1, 2, 3)) is inside for row in f("grades")) for inside in (True, False)],
    12: lambda f: countries([row for row in f("countries-small") if {"FRA", "DEU"} <= set(row["borders"])]),
    13: lambda f: sum(row["borders"] == [] for row in f("countries-small")),
    14: exam_or_high,
    15: lambda f: [row["title"] for row in f("books") if row["title"].startswith("Android")],
    16: lambda f: sum("spring" in row["title"].lower() for row in f("books")),
    17: lambda f: sum("in Action" not in row["title"] for row in f("books")),
    18: lambda f: [list(range(7, 200, 50)), sum(n & 7 == 7 for n in range(200)), sum(n & 7 != 7 for n in range(200))],
    19: pizza_or_good,
    20: lambda f: countries([row for row in f("countries-small") if len(row["borders"]) > 8]),
    21: late_books,
    22: lambda f: countries(sorted(f("countries-small"), key=lambda row: -row["area"])[1:4]),
    23: lambda f: [
        sorted(row["rating"] for row in f("restaurant") if not isinstance(row["rating"], str))[:2],
        [row["rating"] for row in f("restaurant") if isinstance(row["rating"], str)][:2],
    ],
    24: lambda f: [
        [row["student_id"], row["class_id"]]
        for row in sorted(f("grades"), key=lambda row: -max(score["score"] for score in row["scores"]))[:2]
    ],
    25: projections,
    26: distinct,
    27: regions,
    28: best_classes,
    29: lambda f: [
        {"_id": name, "count": n} for name, n in Counter(c for row in f("books") for c in row["categories"]).most_common(3)
    ],
    30: pages,
    31: north,
    32: fitting,
    33: labels,
    34: voices,
    35: students_and_phones,
    36: lambda f: [[row["price"] + 1, False] for row in f("products") if has(row["type"], "case")],
    37: sorted_scores,
    38: switzerland,
    39: lambda f: [
        sum(row["student_id"] == 999 for row in f("grades")),
        {"student_id": 999, "class_id": 1, "scores": [], "tries": 0},
        {"student_id": 999, "class_id": 1, "scores": [], "tries": 11},
    ],
}
