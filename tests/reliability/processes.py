"""Processes that may be killed or may crash: each starts fresh from one that has imported everything and done nothing.

Python's fork server, because a new interpreter takes longer to import than most of these processes live.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

# The program too: each process would import it anew otherwise.
_PRELOADED = ["__main__", "memory3.tests.reliability.serving", "memory3.tests.reliability.probing"]


def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context
