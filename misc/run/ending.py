"""How a command ends: with an exit status, by Ctrl-C at once, whatever computes, or with whoever read what it prints.

Python raises KeyboardInterrupt between two of its own instructions: within a step of a large network, or while threads
end what they have begun, that takes long. So a thread waits beside them, and ends the process where it does not end by
itself; nor is all that torch has loaded taken down piece by piece, which takes seconds. What is written then is no more
than files that have no name yet (misc/files/store.py).
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from misc.files.store import drop_parts

PATIENCE = 1.0  # seconds from Ctrl-C until the process is ended from outside
INTERRUPTED, UNREAD = 130, 141  # exit statuses, as shells have them
_MESSAGE = "interrupted: the same command continues where it was"


def answered(work: Callable[[], int]) -> int:
    """work() -> exit status; INTERRUPTED, told in a line, where Ctrl-C ends it, UNREAD where nobody reads on.

    In the main thread, which signals come to, the process ends PATIENCE after Ctrl-C at the latest."""
    told, pressed = threading.Event(), threading.Event()
    with _watched(told, pressed):
        try:
            status = work()
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            told.set()
            print(_MESSAGE, file=sys.stderr, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where what is left to be printed goes
            return UNREAD
        gc.collect()  # ends threads that wait for work
        if pressed.is_set():
            _end(told)
        return INTERRUPTED


@contextmanager
def _watched(told: threading.Event, pressed: threading.Event) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would come between what ends
        raise KeyboardInterrupt

    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    typed = hasattr(sys, "ps1")  # into a notebook, say, which is to live on
    if not own or typed or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, waker = socket.socketpair()  # what Windows can wake up by, too
    waker.setblocking(False)
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, interrupt)
    threading.Thread(target=_watch, args=(heard, told), daemon=True).start()
    try:
        yield
    finally:
        if not pressed.is_set():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(before)
            waker.close()


def _watch(heard: socket.socket, told: threading.Event) -> None:
    with heard:
        while signals := heard.recv(1):
            if signals[0] == signal.SIGINT:
                time.sleep(PATIENCE)
                _end(told)


def _end(told: threading.Event) -> None:
    drop_parts()
    for stream in (sys.stdout, sys.stderr):
        flush = threading.Thread(target=stream.flush, daemon=True)  # who holds the stream may never let go of it
        flush.start()
        flush.join(PATIENCE / 5)
    if not told.is_set():
        os.write(2, f"{_MESSAGE}\n".encode())
    os._exit(INTERRUPTED)
