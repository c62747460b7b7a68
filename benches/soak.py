#!/usr/bin/env python3
"""A soak: does memory grow, and do answers get slower, when everything runs at once for an hour?

One `serve` in embedded mode with a relay and reconcile, `fake-tencent` in front of it with a random life of groups at a fixed
rate, readers of the API, a follower of the feed and readers of the console, nginx as the backend of the relay, all on this
machine. Before the first window the ledger gets the life of SOAK_OLD groups that were created and destroyed within the last 300
days, and in each window `prune` folds a part of it while everything else runs. For each window the program prints the callbacks a
second, the latency of their answers (bucket of the service's own histogram, from receipt to answer), the processor time of service
and PostgreSQL for each, all reads, passes and deliveries included, the resident memory of the service, and what waits. At the end
the mirror has to be what the ledger says.

    cargo build --release --locked
    python3 benches/soak.py                   # an hour, in windows of ten minutes; wants nginx and psql
    SOAK_WINDOWS=3 SOAK_WINDOW_SECS=60 SOAK_CHANGES=300 SOAK_OLD=500 python3 benches/soak.py

SOAK_CHANGES are changes of the random life a second; some of them are refused or have no callback, so it is above the rate of callbacks.

Exit 1 where a callback was refused or lost, `replay --verify` finds a difference, or a process ends early. Memory and latency are
printed for a person to judge: a machine that others use makes both move.
"""

import http.client
import json
import os
import re
import shutil
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
CHANGES = int(os.environ.get("SOAK_CHANGES", "1350"))
OLD = int(os.environ.get("SOAK_OLD", "10000"))
WINDOWS = int(os.environ.get("SOAK_WINDOWS", "6"))
WINDOW_SECS = int(os.environ.get("SOAK_WINDOW_SECS", "600"))
GROUPS = int(os.environ.get("SOAK_GROUPS", "2000"))
API = "http://127.0.0.1:18081"
CALLBACK = "http://127.0.0.1:18080/callback"
TENCENT = "127.0.0.1:18090"


BACKEND_PORT, DAY_MS = 18070, 86_400_000

# What a backend costs that takes everything: a program in Python would take the processors from what is measured.
NGINX = """
daemon off; pid {place}/nginx.pid; error_log {place}/nginx.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_buffer_size 1m; client_body_temp_path {place}/bodies;
  proxy_temp_path {place}/p; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{
    listen 127.0.0.1:{port};
    location /im {{ default_type application/json; return 200 '{{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}}'; }}
    location /status {{ stub_status; }}
  }}
}}
"""


def start_backend(place, started):
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or sys.exit("there is no nginx here")
    (place / "nginx.conf").write_text(NGINX.format(place=place, port=BACKEND_PORT))
    started.append(subprocess.Popen([program, "-e", f"{place}/nginx.log", "-c", f"{place}/nginx.conf"]))


def taken_by_backend():
    """Requests that the backend has answered, but for those of this function."""
    with urllib.request.urlopen(f"http://127.0.0.1:{BACKEND_PORT}/status", timeout=10) as answer:
        requests = int(answer.read().split()[9])
    taken_by_backend.asked += 1
    return requests - taken_by_backend.asked


taken_by_backend.asked = 0


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


def old_life(place):
    """Groups that were created and destroyed days ago, one after the other over 300 days, eight callbacks each; received when they happened."""
    now = int(time.time() * 1000)

    def send(numbers):
        connection = http.client.HTTPConnection("127.0.0.1", 18080, timeout=30)
        for number in numbers:
            begun = now - 300 * DAY_MS + number * 290 * DAY_MS // OLD
            for at, (command, more) in enumerate(old_callbacks(number)):
                body = dict(more, CallbackCommand=f"Group.CallbackAfter{command}", GroupId=f"old {number}", Type="Public",
                            EventTime=begun + at * 60_000)
                connection.request("POST", f"/callback?SdkAppid=1400000001&CallbackCommand={body['CallbackCommand']}", json.dumps(body))
                answer = connection.getresponse()
                assert b'"ErrorCode":0' in answer.read() and answer.status == 200, "an old callback was refused"
        connection.close()

    senders = [threading.Thread(target=send, args=(range(first, OLD, 16),)) for first in range(16)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    until(lambda: waiting(metrics()) == 0)
    database = next(place.glob("**/postmaster.pid")).read_text().splitlines()
    text = "UPDATE ledger SET received_at = to_timestamp(time_ms / 1000.0)"
    subprocess.run(["psql", "-X", "-q", "-h", database[4], "-p", database[3], "-U", "group_mirror", "-c", text], check=True)


def old_callbacks(number):
    accounts = lambda first, last: [{"Member_Account": f"old_user_{(number * 7 + at) % 5000}"} for at in range(first, last)]
    owner = accounts(0, 1)[0]["Member_Account"]
    yield "CreateGroup", {"Operator_Account": owner, "Owner_Account": owner, "Name": f"Old {number}", "MemberList": accounts(0, 3)}
    for joined in range(3, 9):
        yield "NewMemberJoin", {"JoinType": "Apply", "Operator_Account": owner, "NewMemberList": accounts(joined, joined + 1)}
    yield "GroupDestroyed", {"Owner_Account": owner, "Name": f"Old {number}", "MemberList": accounts(0, 9)}


def waiting(samples):
    return total(samples, "group_mirror_spool_depth") + total(samples, "group_mirror_relay_backlog_rows")


def until(is_so):
    while not is_so():
        time.sleep(0.5)


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
    start_backend(place, started)
    environment = {
        **os.environ,
        "CALLBACK_LISTEN": "127.0.0.1:18080",
        "API_LISTEN": "127.0.0.1:18081",
        "TENCENT_API_URL": f"http://{TENCENT}",
        "TENCENT_SECRET_KEY": "0123456789abcdef" * 4,
        "RELAY_URL": f"http://127.0.0.1:{BACKEND_PORT}/im",
        "RUST_LOG": "warn",
    }
    log = open(place / "log", "w")
    service = subprocess.Popen([PROGRAM], env=environment, cwd=place, stderr=log, stdout=log)
    started.append(service)
    until_ready(service)
    old_life(place)
    print(f"of the old life {taken_by_backend()} callbacks were relayed")
    fake = ["fake-tencent", "--listen", TENCENT, "--callback-url", CALLBACK, "--groups", str(GROUPS), "--users", "5000"]
    fake += ["--changes-per-sec", str(CHANGES), "--knob", "lost=0.001"]
    tencent = subprocess.Popen([PROGRAM, *fake], env=environment, cwd=place, stderr=log, stdout=log)
    started.append(tencent)
    readers = Readers()
    readers.start()

    print("window  answers/s  p50 ms  p99 ms  p99.9 ms  service ms  database ms  resident MB  reads  followed  spool  relay waits  pruned")
    for window in range(1, WINDOWS + 1):
        before, begun, read, followed = metrics(), time.monotonic(), readers.read, readers.followed
        used, largest, pruned = processor_ms(service), 0.0, None
        while (passed := time.monotonic() - begun) < WINDOW_SECS:
            if pruned is None and passed > WINDOW_SECS / 2:
                kept_days = 300 - 270 * window / WINDOWS
                time_before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - kept_days * 86400))
                pruned = run(["prune", "--before", time_before], environment, place)
                assert pruned.returncode == 0, pruned.stderr
            largest = max(largest, resident_mb(service))
            for process in started:
                assert process.poll() is None, "a process has ended early"
            time.sleep(1)
        after, took = metrics(), time.monotonic() - begun
        used = [now - then for now, then in zip(processor_ms(service), used, strict=True)]
        answers = total(after, "group_mirror_answer_seconds_count") - total(before, "group_mirror_answer_seconds_count")
        quantiles = (quantile(before, after, share) for share in (0.5, 0.99, 0.999))
        print(
            f"{window:6}  {answers / took:9.0f}",
            *(f"{value:7.1f}" for value in quantiles),
            f"{used[0] / answers:10.3f}  {used[1] / answers:11.3f}",
            f"{largest:11.1f}  {readers.read - read:5}  {readers.followed - followed:8}",
            f"{total(after, 'group_mirror_spool_depth'):5.0f}  {total(after, 'group_mirror_relay_backlog_rows'):11.0f}",
            " ".join(pruned.stdout.split("\n")),
            flush=True,
        )

    readers.ended.set()
    tencent.send_signal(signal.SIGINT)
    tencent.wait(60)
    started.remove(tencent)
    until(lambda: waiting(metrics()) == 0)
    end = metrics()
    lost, refused = total(end, "group_mirror_lost_total"), total(end, "group_mirror_refusals_total")
    passes = {key: value for key, value in end.items() if key.startswith(("group_mirror_passes_total", "group_mirror_pass_stopped"))}
    verified = run(["replay", "--verify"], environment, place)
    print(f"lost {lost:.0f}, refused {refused:.0f}, relayed to the backend {taken_by_backend()}, failed reads {len(readers.failed)}")
    print(*readers.failed[:5], *passes.items(), sep="\n")
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
