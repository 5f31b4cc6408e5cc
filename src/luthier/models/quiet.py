"""Silence: third-party progress bars, log lines and warnings stay off the terminal, which is luthier's own."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LOGGERS = ("transformers", "sentence_transformers", "huggingface_hub", "torch", "gguf")


@contextmanager
def quiet() -> Iterator[None]:
    """Only while it lasts: the caller's own settings of these libraries come back at the end. Errors still raise."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        stack.enter_context(_no_bars())
        yield


@contextmanager
def _no_bars() -> Iterator[None]:
    """The bars of transformers; nothing to do before somebody has imported it."""
    if "transformers" not in sys.modules:
        yield
        return
    settings = importlib.import_module("transformers.utils.logging")
    shown = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            settings.enable_progress_bar()
