"""The case volume with a few documents and without a peer: every figure it promises is in its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import generator
from benchmarks.cases import volume
from benchmarks.chosen import CHOSEN, Chosen
from benchmarks.contest import Run
from benchmarks.report import CaseReport, Measure
from benchmarks.templates import DOCUMENT_BYTES

DOCUMENTS = 4_000


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseReport]:
    try:
        generator.build()
    except generator.Unavailable as error:
        pytest.skip(str(error))
    found = CaseReport("volume", volume.WHAT)
    token = CHOSEN.set(Chosen(peers=()))
    try:
        volume.measure(Run(short=True, rounds=1, seconds=1, workplace=workplace(tmp_path_factory), documents=DOCUMENTS + 1), found)
    finally:
        CHOSEN.reset(token)
    yield found


def workplace(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("workplace")


def measure_of(case: CaseReport, words: str) -> Measure:
    return next(measure for measure in case.measures if measure.name.endswith(words))


def test_the_missing_peer_is_named_and_nothing_failed(case: CaseReport):
    assert case.notes == ["left out: postgresql was not asked for"]
    assert len(case.measures) == len(volume.MEASURES)
    assert all([row.contender for row in measure.rows] == [volume.OURS] for measure in case.measures)


def test_a_number_of_documents_is_cut_to_whole_requests(case: CaseReport):
    assert measure_of(case, ", in").name == f"{DOCUMENTS:,} documents, in"


def test_the_disk_holds_every_document_and_its_index(case: CaseReport):
    row = measure_of(case, "without the log").row(volume.OURS)
    assert row is not None
    assert row.median >= row.extra("data_bytes") >= DOCUMENT_BYTES
    assert row.extra("index_bytes") > 0


def test_memory_is_there_at_every_quarter(case: CaseReport):
    row = measure_of(case, "while they go in").row(volume.OURS)
    assert row is not None
    assert all(0 < row.extra(f"at_{quarter}") <= row.median for quarter in (25, 50, 75, 100))
    assert row.extra("final") > 0


def test_what_was_seen_over_time_is_kept(case: CaseReport):
    going_in = case.series[f"{volume.OURS} in"]
    assert going_in[-1]["documents"] == DOCUMENTS
    assert all(sight["unsealed"] >= 0 for sight in going_in)
    assert [sight["at_s"] for sight in going_in] == sorted(sight["at_s"] for sight in going_in)


def test_everything_was_sealed_in_the_end(case: CaseReport):
    row = measure_of(case, "until settled").row(volume.OURS)
    assert row is not None and row.median < volume.SETTLE_SECONDS_MAX
