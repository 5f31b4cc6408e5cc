"""Embedders: the public fake, and the cache on disk with a counting embedder of our own behind it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import StoreError
from luthier.models.embed import CachedEmbedder, HashEmbedder, Vectors
from luthier.types import Embedder, Event

TEXTS = [f"text number {i} {'long ' * (i % 7)}" for i in range(700)]


class Counting:
    """Remembers what it was asked; `noise` differs from instance to instance, as padding does on a real model."""

    name = "counting"

    def __init__(self, fingerprint: str = "a", noise: float = 0.0) -> None:
        self.fingerprint, self.noise, self.asked = fingerprint, noise, list[str]()

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return HashEmbedder(32).embed(texts) + np.float32(self.noise)


@given(st.lists(st.text(), max_size=6))
def test_hashed_vectors_are_unit_float32_rows_in_order(texts: list[str]) -> None:
    vectors = HashEmbedder().embed(texts)
    assert vectors.shape == (len(texts), 256)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(HashEmbedder().embed([text])[0], vector)


def test_hashed_vectors_are_the_same_in_every_process() -> None:
    script = (
        "from luthier.models.embed import HashEmbedder as H; print(H().fingerprint, H().embed(['a cat'])[0].tolist())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split(" ", 1) == [HashEmbedder().fingerprint, f"{HashEmbedder().embed(['a cat'])[0].tolist()}\n"]


def test_dimension_is_part_of_the_fingerprint() -> None:
    assert HashEmbedder(64).fingerprint != HashEmbedder(32).fingerprint


def test_the_cache_gives_the_vectors_of_the_embedder_in_the_callers_order(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, tmp_path)
    assert isinstance(cached, Embedder)
    assert (cached.name, cached.fingerprint) == (inner.name, inner.fingerprint)
    assert np.array_equal(cached.embed(TEXTS), HashEmbedder(32).embed(TEXTS))
    assert np.array_equal(cached.embed(TEXTS[::-1]), HashEmbedder(32).embed(TEXTS[::-1]))
    assert cached.embed(TEXTS).dtype == np.float32


def test_a_second_run_computes_nothing_and_a_repeat_is_embedded_once(tmp_path: Path) -> None:
    first = Counting()
    CachedEmbedder(first, tmp_path).embed([*TEXTS, *TEXTS[:50]])
    assert sorted(first.asked) == sorted(TEXTS)
    second = Counting()
    CachedEmbedder(second, tmp_path).embed(TEXTS)
    assert second.asked == []
    third = Counting()
    CachedEmbedder(third, tmp_path).embed([*TEXTS, "new"])
    assert third.asked == ["new"]


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_another_fingerprint_shares_nothing(tmp_path: Path, first: str, second: str) -> None:
    CachedEmbedder(Counting(first), tmp_path).embed(["x"])
    other = Counting(second)
    CachedEmbedder(other, tmp_path).embed(["x"])
    assert other.asked == ["x"]


def test_no_texts_are_no_rows(tmp_path: Path) -> None:
    assert CachedEmbedder(Counting(), tmp_path).embed([]).shape == (0, 32)


def test_progress_counts_what_is_computed(tmp_path: Path) -> None:
    events: list[Event] = []
    CachedEmbedder(Counting(), tmp_path, events.append).embed(TEXTS)
    assert [(event.done, event.total) for event in events] == [(256, 700), (512, 700), (700, 700)]
    events.clear()
    CachedEmbedder(Counting(), tmp_path, events.append).embed(TEXTS)
    assert events == []


def test_a_killed_run_goes_on_with_whole_chunks(tmp_path: Path) -> None:
    """Every chunk is of one run: a vector must not depend on where another run was killed."""
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_embed import TEXTS, Counting
from luthier.models.embed import CachedEmbedder
from pathlib import Path
class Slow(Counting):
    def embed(self, texts):
        print("chunk", flush=True)
        time.sleep(0 if len(self.asked) < 256 else 60)
        return super().embed(texts)
CachedEmbedder(Slow(), Path({str(tmp_path)!r})).embed(TEXTS)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["chunk\n"] * 2
    process.send_signal(signal.SIGKILL)
    process.communicate()

    inner = Counting(noise=0.25)
    again = CachedEmbedder(inner, tmp_path).embed(TEXTS)
    kept = np.array_equal
    plain = HashEmbedder(32).embed(TEXTS)
    from_first = [i for i in range(len(TEXTS)) if kept(again[i], plain[i])]
    assert len(from_first) == 256
    assert sorted(inner.asked) == sorted(TEXTS[i] for i in range(len(TEXTS)) if i not in set(from_first))
    # the chunks are those that an undisturbed run makes
    whole = Counting()
    CachedEmbedder(whole, tmp_path / "other").embed(TEXTS)
    assert whole.asked[256:] == inner.asked


def test_two_processes_share_one_file(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_embed import TEXTS, Counting
from luthier.models.embed import CachedEmbedder
from pathlib import Path
import numpy as np
vectors = CachedEmbedder(Counting(noise=float(sys.argv[1])), Path({str(tmp_path)!r})).embed(TEXTS)
np.save(sys.argv[2], vectors)
"""
    outputs = [tmp_path / f"{i}.npy" for i in range(3)]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(i / 8), str(output)]) for i, output in enumerate(outputs)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    first, *others = (np.load(output) for output in outputs)
    assert all(np.array_equal(first, other) for other in others)  # whoever was first, all hold the stored vectors


def test_a_damaged_cache_is_an_error_that_says_it_may_go(tmp_path: Path) -> None:
    (tmp_path / CachedEmbedder.FILE).write_bytes(b"not a database " * 100)
    with pytest.raises(StoreError, match="cache of embeddings") as caught:
        CachedEmbedder(Counting(), tmp_path).embed(["x"])
    assert caught.value.where == str(tmp_path / CachedEmbedder.FILE)
    assert "delete it" in caught.value.fix


def test_a_locked_cache_is_waited_for(tmp_path: Path) -> None:
    CachedEmbedder(Counting(), tmp_path).embed(["x"])
    script = f"""
import sqlite3, sys, time
connection = sqlite3.connect({str(tmp_path / CachedEmbedder.FILE)!r}, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(0.5)
connection.execute("ROLLBACK")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    start = time.monotonic()
    assert CachedEmbedder(Counting(), tmp_path).embed(["y"]).shape == (1, 32)
    assert time.monotonic() - start > 0.2
    process.communicate()


def test_a_failing_embedder_leaves_no_rows(tmp_path: Path) -> None:
    class Failing(Counting):
        def embed(self, texts: Sequence[str]) -> Vectors:
            raise MemoryError

    with pytest.raises(MemoryError):
        CachedEmbedder(Failing(), tmp_path).embed(["x"])
    with sqlite3.connect(tmp_path / CachedEmbedder.FILE) as connection:
        assert connection.execute("SELECT COUNT(*) FROM vectors").fetchone() == (0,)
    connection.close()
