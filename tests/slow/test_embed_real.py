"""The real sentence model: unit vectors that know meaning, offline, the same from the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luthier.models import catalog
from luthier.models.embed import CachedEmbedder, SentenceEmbedder
from luthier.types import Event

pytestmark = pytest.mark.slow

EVENTS: list[Event] = []

TEXTS = [
    "How do I reset my password?",
    "I forgot the code to log in",
    "What does a train ticket to Lyon cost?",
    "",
    "long " * 2000,
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    opened = catalog.open_embedder("all-minilm-l6-v2", EVENTS.append)
    assert isinstance(opened, SentenceEmbedder)
    return opened


def test_vectors_are_unit_float32_rows_that_know_meaning(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_rows_stand_in_the_order_of_the_texts(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS[:3], vectors, strict=False):
        assert np.allclose(embedder.embed([text])[0], vector, atol=1e-5)
    assert embedder.embed([]).shape == (0, 384)


def test_progress_is_told_for_long_lists_only(embedder: SentenceEmbedder) -> None:
    EVENTS.clear()
    embedder.embed([f"text {i}" for i in range(300)])
    assert [(event.done, event.total) for event in EVENTS if event.total] == [(256, 300), (300, 300)]
    EVENTS.clear()
    embedder.embed(["one text"])
    assert EVENTS == []


def test_the_fingerprint_covers_the_weights(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    assert SentenceEmbedder(embedder.folder, "again").fingerprint == embedder.fingerprint
    for path in embedder.folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(embedder.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert SentenceEmbedder(tmp_path, "copy").fingerprint == embedder.fingerprint
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert SentenceEmbedder(tmp_path, "changed").fingerprint != embedder.fingerprint


def test_a_folder_is_opened_by_its_path(embedder: SentenceEmbedder) -> None:
    opened = catalog.open_embedder(str(embedder.folder))
    assert opened.name == embedder.folder.name
    assert opened.fingerprint == embedder.fingerprint


def test_from_the_cache_come_the_same_bits_without_the_model(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    first = CachedEmbedder(embedder, tmp_path).embed(TEXTS)
    fresh = SentenceEmbedder(embedder.folder, "fresh")
    assert np.array_equal(CachedEmbedder(fresh, tmp_path).embed(TEXTS), first)
    assert "_model" not in vars(fresh)  # it was never loaded
