"""The incremental measurement with little: four sound backups, and the kinds and bytes that they should have."""

from __future__ import annotations

import pytest

from benchmarks.incremental import measure, size_of


def test_what_is_measured_is_what_is_said(tmp_path) -> None:
    full, new, again, nothing = measure(str(tmp_path), 2_000_000, 0.01)
    assert [row.kind for row in (full, new, again, nothing)] == ["full", "incremental", "full", "incremental"]
    assert full.written == full.size < new.size == again.size == again.written
    assert 0 < new.written < full.size / 10 and nothing.written == 0


def test_sizes() -> None:
    assert (size_of("200MB"), size_of("1gb")) == (200_000_000, 1_000_000_000)
    for bad in ("1", "GB", "1.5GB", "10KB"):
        with pytest.raises(Exception, match="200MB or 1GB"):
            size_of(bad)
