#!/usr/bin/env python3
"""What a callback costs in the database, by kind: bytes on disk, write-ahead log, processor time of the server.

    python3 benches/sizes.py target/release/group-mirror postgres://postgres@127.0.0.1/empty [CALLBACKS]

The database is empty, and its role a superuser; nothing else uses the server, which has `autovacuum` off and no checkpoint while
it runs (`-c autovacuum=off -c checkpoint_timeout=1h -c max_wal_size=20GB`). The service is started on it and gets each kind after
the other over 32 connections; then tables are vacuumed and measured. Bodies are as Tencent spells them without white space, with
`ClientIP`, `OptPlatform` and `RequestID` in the query. Time is that of all processes of the server by /proc, so this has to
run on its machine, with nothing beside it. Compare builds of one kind: a slower service has more of the server's periodic work in each callback.
"""
import glob, http.client, json, os, random, subprocess, sys, tempfile, threading, time, uuid

BINARY, URL = sys.argv[1:3]
CALLBACKS = int(sys.argv[3]) if len(sys.argv) > 3 else 20000
APP, CONNECTIONS, PORTS = "1400000001", 32, (18380, 18381)
RNG = random.Random(5)
clock = [int(time.time() * 1000) - 86_400_000]


def sql(statement):
    run = subprocess.run(["psql", "-X", "-A", "-t", URL, "-c", statement], check=True, capture_output=True, text=True)
    return [line.split("|") for line in run.stdout.splitlines()]


def group():
    return "@TGS#2" + "".join(RNG.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(9))


def user():
    return f"user_{RNG.randint(10**9, 10**10 - 1)}"


def accounts(*users):
    return [{"Member_Account": name} for name in users]


GROUPS = [group() for _ in range(5000)]


def body(command, of, **more):
    clock[0] += 37
    return dict(more, CallbackCommand=f"Group.CallbackAfter{command}", EventTime=clock[0], GroupId=of, Type="Public",
                Operator_Account=user())


def create():
    return body("CreateGroup", group(), Owner_Account=user(), Name=f"Sunday walks {RNG.randint(0, 9999)}",
                MemberList=accounts(user(), user()),
                UserDefinedDataList=[{"Key": "region", "Value": "north"}, {"Key": "tier", "Value": "2"}])


def join(users):
    return body("NewMemberJoin", RNG.choice(GROUPS), JoinType="Apply", NewMemberList=accounts(*[user() for _ in range(users)]))


def leave(joined):
    of, name = joined.pop(RNG.randrange(len(joined)))
    return body("MemberExit", of, ExitType="Quit", ExitMemberList=accounts(name))


joined = []
KINDS = [
    ("create, 3 members, 2 fields", create, 1),
    ("the same, 1 connection", create, 4),
    ("join of one", lambda: join(1), 1),
    ("join of twenty", lambda: join(20), 5),
    ("exit of one", lambda: leave(joined), 1),
    ("profile", lambda: body("GroupInfoChanged", RNG.choice(GROUPS), Name=f"Sunday walks {RNG.randint(0, 9999)}",
                             Notification="Meet at the bridge at nine, bring water. " * 2), 1),
    ("role and card", lambda: body("MemberFieldChanged", RNG.choice(GROUPS), Member_Account=user(), NameCard="Boris (guide)",
                                   Role="Admin"), 1),
    ("attributes", lambda: body("GroupAttrChanged", RNG.choice(GROUPS), OptionType="modify",
                                GroupAttr=[{"key": f"seat_{RNG.randint(1, 8)}", "value": user()}]), 1),
]
PARTS = """
SELECT CASE WHEN r.relkind = 'r' THEN (CASE WHEN p.relname LIKE 'ledger_people%' THEN 'people'
                                            WHEN p.relname LIKE 'ledger_%' THEN 'heap' ELSE 'mirror' END)
            WHEN p.relname LIKE 'ledger_people%' THEN 'people index'
            WHEN r.relname LIKE 'ledger%pkey' THEN 'key' WHEN r.relname LIKE 'ledger%position%' THEN 'position'
            WHEN p.relname LIKE 'ledger_%' THEN 'time' ELSE 'mirror' END,
       sum(pg_relation_size(r.oid) + CASE WHEN r.reltoastrelid <> 0
                                     THEN pg_total_relation_size(r.reltoastrelid) ELSE 0 END)
  FROM pg_class r LEFT JOIN pg_index i ON i.indexrelid = r.oid JOIN pg_class p ON p.oid = COALESCE(i.indrelid, r.oid)
 WHERE r.relnamespace = 'public'::regnamespace AND r.relkind IN ('r', 'i') AND p.relname NOT LIKE 'ledger_moves%' GROUP BY 1"""
COLUMNS = ["heap", "key", "position", "time", "people", "people index", "mirror"]


def sizes():
    return {name: int(bytes_) for name, bytes_ in sql(PARTS)}


def server_ticks(postmaster):
    """User and system time of the processes of the server, those that have ended included."""
    ticks = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        number = path.split("/")[2]
        if number == postmaster or fields[1] == postmaster:
            ticks += sum(int(field) for field in fields[11:15 if number == postmaster else 13])
    return ticks


def send(bodies, connections):
    todo, lock = iter(bodies), threading.Lock()

    def one():
        conn = http.client.HTTPConnection("127.0.0.1", PORTS[0])
        while True:
            with lock:
                entry = next(todo, None)
                request = uuid.UUID(int=RNG.getrandbits(128), version=4)
            if entry is None:
                return
            data = json.dumps(entry, separators=(",", ":"))
            conn.request("POST", f"/?SdkAppid={APP}&CallbackCommand={entry['CallbackCommand']}&contenttype=json"
                         f"&ClientIP=203.0.113.{RNG.randint(1, 254)}&OptPlatform=Android&RequestID={request}", data)
            answer = conn.getresponse()
            text = answer.read()
            assert answer.status == 200, text

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    directory = tempfile.mkdtemp()
    postmaster = sql("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")[0][0]
    environment = dict(os.environ, DATABASE_URL=URL, SDK_APP_ID=APP, CALLBACK_AUTH="none", API_AUTH="none", DATA_DIR=directory,
                       CALLBACK_LISTEN=f"127.0.0.1:{PORTS[0]}", API_LISTEN=f"127.0.0.1:{PORTS[1]}", RUST_LOG="error")
    subprocess.run([BINARY, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
    service = subprocess.Popen([BINARY, "serve"], env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                conn = http.client.HTTPConnection("127.0.0.1", PORTS[0])
                conn.request("GET", "/readyz")
                if conn.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        print("| kind | body | " + " | ".join(COLUMNS) + " | ledger | WAL | µs |")
        total = 0
        for name, make, divided in KINDS:
            count = CALLBACKS // divided
            bodies = [make() for _ in range(count)]
            if name == "join of one":
                joined.extend((entry["GroupId"], entry["NewMemberList"][0]["Member_Account"]) for entry in bodies)
            before, ticks = sizes(), server_ticks(postmaster)
            lsn = sql("SELECT pg_current_wal_insert_lsn()")[0][0]
            send(bodies, 1 if "1 connection" in name else CONNECTIONS)
            # What waits in the spool is entered as well.
            total += count
            while sql("SELECT count(*) FROM ledger") != [[str(total)]]:
                time.sleep(0.2)
            wal = int(sql(f"SELECT pg_current_wal_insert_lsn() - '{lsn}'")[0][0].split(".")[0])
            ticks = server_ticks(postmaster) - ticks
            assert sql("SELECT count(*) FROM ledger WHERE outcome <> 'applied'") == [["0"]]
            sql("VACUUM")
            after = sizes()
            took = {part: (after[part] - before.get(part, 0)) / count for part in COLUMNS}
            mean = sum(len(json.dumps(entry, separators=(",", ":"))) for entry in bodies) / count
            ledger = sum(took[part] for part in ("heap", "key", "position", "time"))
            figures = [mean, *(took[part] for part in COLUMNS), ledger, wal / count, ticks * 1e6 / os.sysconf("SC_CLK_TCK") / count]
            print(f"| {name} | " + " | ".join(f"{figure:.0f}" for figure in figures) + " |", flush=True)
    finally:
        service.terminate()
        service.wait()


main()
