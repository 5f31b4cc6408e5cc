"""General text: prose and prompts that have nothing to do with the task, there on every machine without a download.

One example: the docstring of Python's `threading` says "A barrier is useful for synchronizing a fixed number of threads
at known synchronization points. Threads block on ..." It is cut into paragraphs, of which those are kept that are
prose; half of the places they come from serve repairs ("dev"), the others the certificate.
"""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from luthier.errors import DataError
from luthier.types import GuardRules, Message, digest

VERSION = 1  # changes with the places below, with what counts as prose, and with the prompts
Part = Literal["dev", "certificate"]

FEWEST_WORDS = 40
DEV_PROMPTS = 16
OF_ONE_PLACE = 4
# code, markup, formulas and tables are no prose
_NO_PROSE = re.compile(r"[<>={}\[\]|\\_*~^@#$]|::|\.\.\.|https?:|``|\(\)")
# parsing the sources would take seconds
_TRIPLE = re.compile(r'"""(.*?)"""', re.DOTALL)
_INDENTED = (" ", "\t", ">>>", "-", "*", "|", "#", "@", ":")
_STDLIB = (
    "_pyio _strptime argparse ast asyncio/base_events asyncio/selector_events asyncio/tasks base64 bdb cmd "
    "collections/__init__ configparser copy csv dataclasses datetime difflib dis doctest email/charset "
    "email/feedparser email/header email/headerregistry email/message fileinput fractions ftplib functools gzip "
    "http/client http/cookiejar http/server imaplib inspect io json/decoder logging/handlers multiprocessing/pool "
    "optparse os pathlib pdb pickle pkgutil pstats py_compile queue random sched shutil smtplib socket socketserver "
    "ssl statistics subprocess tarfile tempfile textwrap threading timeit tkinter/ttk tokenize trace "
    "traceback turtle typing unittest/case unittest/mock urllib/parse urllib/request weakref xml/sax/handler "
    "xml/sax/xmlreader zipfile zipimport"
)
_SKLEARN = (
    "cluster/_birch cluster/_spectral ensemble/_bagging ensemble/_forest feature_selection/_rfe linear_model/_logistic "
    "linear_model/_stochastic_gradient metrics/_classification metrics/_ranking metrics/cluster/_unsupervised "
    "metrics/pairwise model_selection/_split model_selection/_validation multiclass preprocessing/_data "
    "preprocessing/_label"
)
_SCIPY = (
    "cluster/hierarchy cluster/vq fft/_basic integrate/_bvp interpolate/_polyint io/_netcdf linalg/_basic "
    "ndimage/_filters ndimage/_interpolation optimize/_linprog_doc optimize/_minimize optimize/_optimize "
    "optimize/_tnc signal/_filter_design signal/_fir_filter_design signal/_peak_finding signal/_signaltools "
    "signal/_spectral_py signal/windows/_windows sparse/linalg/_isolve/lsqr spatial/_kdtree "
    "spatial/transform/_rotation stats/_binned_statistic stats/_correlation stats/_fit stats/_hypotests "
    "stats/_morestats stats/_multivariate stats/_qmc stats/_resampling stats/_sensitivity_analysis stats/_stats_py "
    "stats/contingency"
)

QUESTIONS = (
    "What is the capital of France?",
    "How do I boil an egg?",
    "Why is the sky blue?",
    "Write a short thank-you note to a neighbour.",
    "What is the difference between a lake and a river?",
    "Give me three ideas for a rainy afternoon.",
    "Who wrote Romeo and Juliet?",
    "How many days are there in a leap year?",
    "Tell me a short story about a lost key.",
    "What should I pack for a weekend by the sea?",
    "Explain what a loan is to a child.",
    "What do bees do in winter?",
    "How can I remember names better?",
    "Name two things that are made of glass.",
    "What is 12 plus 7?",
    "Is it safe to eat raw potatoes?",
    "Translate 'good morning' into Spanish.",
    "Why do people sleep?",
    "What is a good present for a teacher?",
    "How does a bicycle stay upright?",
    "Write one sentence about autumn.",
    "What is the opposite of 'generous'?",
    "How do I ask for a day off politely?",
    "What is bread made of?",
    "Which is heavier, iron or wood?",
    "Give me a rule for using commas.",
    "What happens when water freezes?",
    "Describe the taste of a lemon.",
    "How far away is the Moon?",
    "What does a librarian do?",
    "Suggest a name for a small cafe.",
    "What is a healthy breakfast?",
)
FRAMES = (
    "Say this in simpler words: {}",
    "What is this about? {}",
    "Give this text a title: {}",
    "Shorten this: {}",
)


@dataclass(frozen=True)
class General:
    """Texts and prompts of one part; `fingerprint` changes with any of their letters."""

    documents: tuple[str, ...]
    prompts: tuple[tuple[Message, ...], ...]

    @property
    def fingerprint(self) -> str:
        return digest(VERSION, self.documents, self.prompts)


def general(part: Part, *, documents: int, prompts: int, text: str | None = None) -> General:
    """At most so many documents and prompts of a part, the same ones in every process with the same packages.

    `text` is the path of a file whose paragraphs, parted by empty lines, take the place of documentation. The parts
    share no document and no prompt. Errors: DataError for a file that cannot be read or has fewer than four paragraphs.
    """
    found = _of_file(text) if text is not None else documentation()
    chosen = [one for one in found if one.part == part][:documents]
    asked = [question for at, question in enumerate(QUESTIONS) if (at % 2 == 0) == (part == "certificate")]
    asked += [FRAMES[at % len(FRAMES)].format(_first_sentence(one.text)) for at, one in enumerate(chosen)]
    if prompts < len(asked):  # as many of either kind as there can be
        short = min(len(QUESTIONS) // 2, prompts // 2)
        asked = [*asked[:short], *asked[len(QUESTIONS) // 2 : len(QUESTIONS) // 2 + prompts - short]]
    return General(tuple(one.text for one in chosen), tuple((Message("user", prompt),) for prompt in asked))


def halved(rules: GuardRules) -> GuardRules:
    """The rules by which choices are made: half as many texts, and a few prompts."""
    return replace(rules, documents=rules.documents // 2, prompts=DEV_PROMPTS)


def dev_part(rules: GuardRules) -> General:
    """What choices are made on."""
    half = halved(rules)
    return general("dev", documents=half.documents, prompts=half.prompts, text=rules.text)


@dataclass(frozen=True, slots=True)
class Document:
    """A paragraph of prose and the place that it comes from."""

    text: str
    place: str

    @property
    def part(self) -> Part:
        return "dev" if int(digest("part", self.place)[:4], 16) % 2 else "certificate"


@cache
def documentation() -> tuple[Document, ...]:
    """Prose from the documentation of Python's standard library, scikit-learn and SciPy, in the order of its hashes.

    About 350 paragraphs of at least 40 words; which ones follows from the versions installed.
    """
    found: dict[str, Document] = {}
    for place, texts in _places():
        prose = dict.fromkeys(paragraph for text in texts for paragraph in paragraphs(text))
        for paragraph in sorted(prose, key=digest)[:OF_ONE_PLACE]:
            found.setdefault(paragraph, Document(paragraph, place))
    return tuple(sorted(found.values(), key=lambda document: digest(document.text)))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring that are prose: whole sentences, no code, no lists, at least 40 words.

    >>> list(paragraphs("Too short.")), len(list(paragraphs("It is " + "so long " * 20 + "now.")))
    ([], 1)
    """
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if any(line.startswith(_INDENTED) for line in part.splitlines()):
            continue
        words = part.split()
        line = " ".join(words)
        if len(words) < FEWEST_WORDS or not line[0].isupper() or line[-1] != "." or _NO_PROSE.search(line):
            continue
        if sum(letter.isalpha() or letter in " ,.;:'\"()-" for letter in line) >= 0.97 * len(line):
            yield line


def _places() -> Iterator[tuple[str, list[str]]]:
    for name, texts in _language_reference().items():
        yield f"topic {name}", [texts]
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for package, folder, modules in (
        ("python", stdlib, _STDLIB),
        ("sklearn", _folder_of("sklearn"), _SKLEARN),
        ("scipy", _folder_of("scipy"), _SCIPY),
    ):
        for module in modules.split():
            if folder is not None:
                yield f"{package} {module}", _docstrings(folder / f"{module}.py")


def _language_reference() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return {}
    # what stands there is indented or not, paragraph by paragraph
    return {name: "\n\n".join(map(inspect.cleandoc, re.split(r"\n\s*\n", text))) for name, text in topics.items()}


def _folder_of(package: str) -> Path | None:
    found = find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def _docstrings(path: Path) -> list[str]:
    """What stands in triple quotes in a source file, which is not run; nothing where there is no such file."""
    try:
        return _TRIPLE.findall(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


def _of_file(path: str) -> tuple[Document, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"it cannot be read: {error}", where=path, fix="[guard] text names a UTF-8 file") from error
    found = dict.fromkeys(" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip())
    if len(found) < 4:
        raise DataError(
            f"it has {len(found)} paragraphs", where=path, fix="part them by empty lines; a hundred are a good number"
        )
    # a place of its own for each paragraph: the parts are drawn paragraph by paragraph
    return tuple(Document(text, text) for text in sorted(found, key=digest))


def _first_sentence(text: str) -> str:
    """
    >>> _first_sentence("It rains. It pours.")
    'It rains.'
    """
    return re.split(r"(?<=[.?!]) ", text, maxsplit=1)[0]


def part_sizes(documents: Sequence[Document]) -> dict[Part, int]:
    """How many documents each part has."""
    return {part: sum(one.part == part for one in documents) for part in ("dev", "certificate")}
