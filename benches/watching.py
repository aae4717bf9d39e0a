#!/usr/bin/env python3
"""What watching costs a run: its updates per second, and the launcher's CPU time, with watchers and without, in turns.

    benches/watching.py target/release/lucid [--pairs 15] [--seconds 8] [-- more arguments of lucid train]

The watchers are a reader of the control socket, as `lucid watch` is one, a reader of the page's events, as a browser is one, and a scrape
of /metrics each second. They only read, so that what is measured is what the run does for them; a browser's drawing is its own.
Needs Python 3.8 and nothing else.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request


def cpu(pid):
    """User and system seconds of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Socket:
    """Asks the launcher to tell how the run goes."""

    def __init__(self, run):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(run / "control.sock"))
        self.socket.sendall(b'"watch"\n')
        self.lines = self.socket.makefile()

    def updates(self):
        for line in self.lines:
            report = json.loads(line).get("report")
            if report:
                return report["updates"], time.monotonic()
        raise SystemExit("the run has ended")

    def close(self):
        self.socket.close()


def drain(source, stop):
    """Read until told to stop."""
    while not stop.is_set():
        try:
            if not source.read1(1 << 16):
                return
        except (OSError, ValueError):
            return


def scrape(url, stop):
    while not stop.wait(1.0):
        urllib.request.urlopen(url).read()


def watched(run, url, seconds):
    """Let watchers look for so long."""
    stop = threading.Event()
    place = urllib.parse.urlsplit(url)
    secret = urllib.parse.parse_qs(place.query)["token"][0]
    base = f"{place.scheme}://{place.netloc}"
    request = urllib.request.Request(f"{base}/api/events", headers={"Authorization": f"Bearer {secret}"})
    events = urllib.request.urlopen(request, timeout=30)
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(str(run / "control.sock"))
    plain.sendall(b'"watch"\n')
    words = plain.makefile("rb")
    threads = [
        threading.Thread(target=drain, args=(events, stop), daemon=True),
        threading.Thread(target=drain, args=(words, stop), daemon=True),
        threading.Thread(target=scrape, args=(f"{base}/metrics", stop), daemon=True),
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join(5.0)
    events.close()
    plain.close()


def window(run, pid, seconds, url=None):
    """Updates a second and the launcher's share of one core over a window; with the page's address, watchers look meanwhile."""
    source = Socket(run)
    before, start = source.updates()
    used = cpu(pid)
    source.close()
    watched(run, url, seconds) if url else time.sleep(seconds)
    used = cpu(pid) - used
    source = Socket(run)
    after, end = source.updates()
    source.close()
    return (after - before) / (end - start), used / (end - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lucid")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("train", nargs="*", help="more arguments of lucid train")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        command = [args.lucid, "train", "--run", run, "-c", "dummy", "--set", "run.train_ratio=4096", "--actors", "4", *args.train]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while not (run / "page.url").exists() or not (run / "metrics.jsonl").exists() or "learner/update_ms" not in (run / "metrics.jsonl").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the run has not begun to train")
                time.sleep(0.2)
            url = (run / "page.url").read_text().strip()
            ratios, plain, looked = [], [], []
            for pair in range(args.pairs):
                # In turns, so that neither side has the better half of the time.
                order = [None, url] if pair % 2 == 0 else [url, None]
                found = {bool(who): window(run, process.pid, args.seconds, who) for who in order}
                ratios.append(found[True][0] / found[False][0])
                plain.append(found[False][1])
                looked.append(found[True][1])
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"updates/s with watchers by updates/s without: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}, {args.pairs} pairs")
            print(
                f"launcher's CPU, of one core: {100 * statistics.median(looked):.2f} % with watchers, "
                f"{100 * statistics.median(plain):.2f} % without"
            )
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    main()
