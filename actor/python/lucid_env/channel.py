"""Messages to and from the actor; docs/environments.md has their format."""
import ctypes
import os
import select
import signal
import struct
import sys

STEP, RESET, RENDER, CLOSE, MAP = b"S", b"R", b"P", b"C", b"M"
HELLO, OBSERVATION, PICTURE, NO_PICTURE, RAISED, REFUSED, MISSING = b"H", b"O", b"P", b"N", b"E", b"X", b"I"

SET_PARENT_DEATH_SIGNAL = 1
KIND_ONLY = struct.pack("<I", 1)  # The length of most requests.
SPINS = 40  # About 20 microseconds.


class Channel:
    """The two pipes. They are moved away from standard input and output, which the environment is then free to use."""

    def __init__(self):
        self.requests, self.replies = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)
        sys.stdout.reconfigure(line_buffering=True)
        self.buffer = b""
        poll = select.poll()
        poll.register(self.requests, select.POLLIN)
        self.poll = poll.poll

    def receive(self):
        """The next request: its kind and what follows. Where the actor has gone, the process ends."""
        while True:
            size = int.from_bytes(self.buffer[:4], "little") if len(self.buffer) >= 4 else None
            if size is not None and len(self.buffer) >= 4 + size:
                message, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
                return message[:1], message[1:]
            # The next request comes soon where many environments step at once: falling asleep and waking up take longer.
            for _ in range(SPINS):
                if self.poll(0):
                    break
            data = os.read(self.requests, 65536)
            if not data:
                os._exit(0)
            if data[:4] == KIND_ONLY and len(data) == 5 and not self.buffer:
                return data[4:], b""
            self.buffer += data

    def send(self, kind, body=b""):
        """One reply."""
        data = struct.pack("<I", 1 + len(body)) + kind + body
        written = os.write(self.replies, data)
        while written < len(data):
            written += os.write(self.replies, data[written:])

    def end(self, kind, text):
        """The last reply, which says why, and the end of the process."""
        self.send(kind, text.encode(errors="replace"))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def follow(parent):
    """The process ends with its parent, also in the midst of a step."""
    try:
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    except (AttributeError, OSError):
        pass  # The end of the pipe is noticed all the same, between two steps.
    if os.getppid() != parent:
        os._exit(0)
