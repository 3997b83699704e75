"""Keeps FAISS to the threads that call it."""

import threading

import faiss

_own = threading.local()


def in_this_thread() -> None:
    """Have FAISS do in the calling thread alone what that thread asks of it, from now on.

    OpenMP threads that wait for each other collapse beside any other busy process, and do not survive a fork. Searches
    run side by side in the callers' threads instead: FAISS lets go of the interpreter's lock. OpenMP keeps the number
    of threads for each thread that asks, so that each has to be held to it.
    """
    if not getattr(_own, "is_held", False):
        faiss.omp_set_num_threads(1)
        _own.is_held = True
