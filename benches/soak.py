#!/usr/bin/env python3
"""A soak: does memory grow, and do answers get slower, when everything runs at once for an hour?

One `serve` in embedded mode with a relay and reconcile, `fake-tencent` in front of it with a random life of groups at a fixed
rate, readers of the API, a follower of the feed and readers of the console, all on this machine. After each window `prune`
looks for old entries, of which an hour has none to fold. For each window the program prints the callbacks a second, the
latency of their answers (bucket of the service's own histogram, from receipt to answer), the processor time of service and
PostgreSQL for each, all reads, passes and deliveries included, the resident memory of the service, and what waits. At the end the mirror has to be what the ledger says.

    cargo build --release --locked
    python3 benches/soak.py                   # an hour at 1,000/s, in windows of ten minutes
    SOAK_WINDOWS=3 SOAK_WINDOW_SECS=60 SOAK_RATE=300 python3 benches/soak.py

Exit 1 where a callback was refused or lost, `replay --verify` finds a difference, or a process ends early. Memory and latency are
printed for a person to judge: a machine that others use makes both move.
"""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("SOAK_PROGRAM", str(ROOT / "target/release/group-mirror"))
RATE = int(os.environ.get("SOAK_RATE", "1000"))
WINDOWS = int(os.environ.get("SOAK_WINDOWS", "6"))
WINDOW_SECS = int(os.environ.get("SOAK_WINDOW_SECS", "600"))
GROUPS = int(os.environ.get("SOAK_GROUPS", "2000"))
API = "http://127.0.0.1:18081"
CALLBACK = "http://127.0.0.1:18080/callback"
TENCENT = "127.0.0.1:18090"


class Backend(http.server.BaseHTTPRequestHandler):
    """The customer's backend behind the relay: takes everything."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Backend.taken += 1
        answer = b'{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def get(path):
    with urllib.request.urlopen(API + path, timeout=30) as answer:
        return answer.read()


class Readers:
    """Threads that read until they are stopped, and count what they read and what failed."""

    def __init__(self):
        self.ended = threading.Event()
        self.read = self.followed = 0
        self.failed = []

    def start(self):
        for work in (self.read_lists, self.read_console, self.follow):
            threading.Thread(target=self.forever, args=(work,), daemon=True).start()

    def forever(self, work):
        while not self.ended.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - every failure counts, whatever its kind
                if not self.ended.is_set():
                    self.failed.append(f"{work.__name__}: {error}")
                    self.ended.wait(1)

    def read_lists(self):
        groups = json.loads(get("/v1/groups?limit=20"))["items"]
        for group in groups[:5]:
            name = urllib.request.quote(group["group_id"], safe="")
            for part in ("", "/members?limit=50", "/history?limit=20"):
                get(f"/v1/groups/{name}{part}")
                self.read += 1
                self.ended.wait(0.05)
        get("/v1/stats")

    def read_console(self):
        for page in ("/", "/health"):
            get(page)
            self.read += 1
        self.ended.wait(2)

    def follow(self):
        request = urllib.request.Request(API + "/v1/changes", headers={"Accept": "text/event-stream"})
        with urllib.request.urlopen(request, timeout=60) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    self.followed += 1
                if self.ended.is_set():
                    return


def metrics():
    """Every sample of a scrape, by its name with labels."""
    samples = {}
    for line in get("/metrics").decode().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            samples[name] = float(value)
    return samples


def total(samples, name):
    return sum(value for key, value in samples.items() if key == name or key.startswith(name + "{"))


def quantile(before, after, share):
    """The bucket in which the quantile of the answers of a window lies, in milliseconds."""
    buckets = {}
    for key, value in after.items():
        if key.startswith("group_mirror_answer_seconds_bucket"):
            bound = re.search(r'le="([^"]+)"', key)[1]
            buckets[bound] = buckets.get(bound, 0) + value - before.get(key, 0)
    ordered = sorted((float(bound), count) for bound, count in buckets.items())
    whole = ordered[-1][1] if ordered else 0
    return next((bound * 1000 for bound, count in ordered if whole and count >= share * whole), float("nan"))


def resident_mb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def processor_ms(process):
    """What the service and the servers of PostgreSQL below it have used of the processors, in milliseconds."""
    per_ms = os.sysconf("SC_CLK_TCK") / 1000
    own = database = 0.0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
        except OSError:
            continue  # it has ended meanwhile
        name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        parent, used, of_children = int(fields[1]), sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
        if int(entry.parent.name) == process.pid:
            own = used / per_ms
        elif name == "postgres" and parent == process.pid:
            database += (used + of_children) / per_ms
        elif name == "postgres" and parent_of(parent) == process.pid:
            database += used / per_ms
    return own, database


def parent_of(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])


def run(arguments, environment, place):
    return subprocess.run([PROGRAM, *arguments], env=environment, cwd=place, capture_output=True, text=True, check=False)


def until_ready(service):
    while True:
        try:
            if b'"database":"ok"' in get("/readyz"):
                return
        except OSError:
            pass
        if service.poll() is not None:
            sys.exit("serve ended at its start")
        time.sleep(0.2)


def soak(place, started):
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "CALLBACK_LISTEN": "127.0.0.1:18080",
        "API_LISTEN": "127.0.0.1:18081",
        "TENCENT_API_URL": f"http://{TENCENT}",
        "TENCENT_SECRET_KEY": "0123456789abcdef" * 4,
        "RELAY_URL": f"http://127.0.0.1:{backend.server_port}/im",
        "RUST_LOG": "warn",
    }
    log = open(place / "log", "w")
    service = subprocess.Popen([PROGRAM], env=environment, cwd=place, stderr=log, stdout=log)
    started.append(service)
    until_ready(service)
    fake = ["fake-tencent", "--listen", TENCENT, "--callback-url", CALLBACK, "--groups", str(GROUPS), "--users", "5000"]
    fake += ["--changes-per-sec", str(RATE), "--knob", "lost=0.001"]
    tencent = subprocess.Popen([PROGRAM, *fake], env=environment, cwd=place, stderr=log, stdout=log)
    started.append(tencent)
    readers = Readers()
    readers.start()

    print("window  answers/s  p50 ms  p99 ms  p99.9 ms  service ms  database ms  resident MB  reads  followed  spool  relay waits  pruned")
    for window in range(1, WINDOWS + 1):
        before, begun, read, followed = metrics(), time.monotonic(), readers.read, readers.followed
        used = processor_ms(service)
        largest = 0.0
        while time.monotonic() < begun + WINDOW_SECS:
            largest = max(largest, resident_mb(service))
            for process in started:
                assert process.poll() is None, "a process has ended early"
            time.sleep(1)
        after, took = metrics(), time.monotonic() - begun
        used = [now - then for now, then in zip(processor_ms(service), used, strict=True)]
        week_ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7 * 86400))
        pruned = run(["prune", "--before", week_ago], environment, place)
        assert pruned.returncode == 0, pruned.stderr
        answers = total(after, "group_mirror_answer_seconds_count") - total(before, "group_mirror_answer_seconds_count")
        quantiles = (quantile(before, after, share) for share in (0.5, 0.99, 0.999))
        print(
            f"{window:6}  {answers / took:9.0f}",
            *(f"{value:7.1f}" for value in quantiles),
            f"{used[0] / answers:10.3f}  {used[1] / answers:11.3f}",
            f"{largest:11.1f}  {readers.read - read:5}  {readers.followed - followed:8}",
            f"{total(after, 'group_mirror_spool_depth'):5.0f}  {total(after, 'group_mirror_relay_backlog_rows'):11.0f}",
            f" {pruned.stdout.strip().splitlines()[-1] if pruned.stdout.strip() else '-'}",
            flush=True,
        )

    readers.ended.set()
    tencent.send_signal(signal.SIGINT)
    tencent.wait(60)
    started.remove(tencent)
    while total(metrics(), "group_mirror_spool_depth") > 0:
        time.sleep(0.5)
    end = metrics()
    lost, refused = total(end, "group_mirror_lost_total"), total(end, "group_mirror_refusals_total")
    verified = run(["replay", "--verify"], environment, place)
    print(f"lost {lost:.0f}, refused {refused:.0f}, relayed to the backend {Backend.taken}, failed reads {len(readers.failed)}")
    print(*readers.failed[:5], sep="\n")
    print(verified.stdout.strip().splitlines()[-1] if verified.stdout.strip() else verified.stderr)
    return 0 if lost == refused == verified.returncode == 0 else 1


def main():
    started = []
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        try:
            code = soak(Path(place), started)
        finally:
            for process in reversed(started):
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.wait(60)
            warnings = (Path(place) / "log").read_text()
            print("log, warnings and errors:", *warnings.splitlines()[-10:], sep="\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
