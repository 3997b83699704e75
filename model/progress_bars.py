"""Which bars of the libraries that load models a person gets to see."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars
from transformers.utils import logging


@contextmanager
def downloads_only() -> Iterator[None]:
    """Show how far a download is, on a terminal, and no bar for reading weights from the disk.

    A server's log and a command's error output are no place for bars.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    (enable_progress_bars if sys.stderr.isatty() else disable_progress_bars)()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
