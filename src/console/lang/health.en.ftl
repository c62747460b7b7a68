# Parked, refused and not kept; one entry; health.

parked-meaning = Every callback that came is somewhere here: parked, refused, or answered and not kept. What is on the other pages was applied.
parked-parts = Parts of this page
parked-title = Parked, or read in part
parked-table = Entries of the ledger that are not wholly applied, newest first
parked-none = Nothing is parked.
parked-none-fit = No entry fits these filters.
parked-again = Nothing is lost: the bytes are in the ledger. After an update of the service this command tries again what it can read now:
column-received = Received
column-cause = Cause
column-outcome = Outcome
column-command = Command
column-reason = Reason
column-event-time = Event time as sent
column-source = Source
column-platform = Platform
column-address = Client address
column-request = Request id of Tencent
column-digest = Digest
outcome-applied = applied
source-callback = callback
source-rest = read from Tencent's REST API
entry-title = An entry of the ledger
entry-bytes = Bytes as they came
entry-no-right = Raw bodies are shown to logins with the right +raw alone.
entry-length = { $count ->
    [one] { $count } byte
   *[other] { $count } bytes
 }
entry-hex = The first bytes in hex
entry-again = Trying again
entry-again-meaning = The first command changes nothing and lists what this version could read; the second applies it, each entry at its own place in time.

cause-not-json = The body is no JSON
cause-not-an-object = The body is JSON, but no object
cause-no-command = No command is named
cause-unknown-command = This version does not know the command
cause-command-mismatch = Address and body name different commands
cause-no-group = No group is named
cause-bad-group-id = The group's id cannot be read
cause-several-groups = One body names topics of several groups
cause-bad-time = The event time cannot be read
cause-future-time = The event time lies in the future
cause-missing-field = A field is missing
cause-wrong-type = A field is of another type
cause-bad-id = An id is empty or too long
cause-bad-key = The key of a field is too long
cause-not-unicode = An id or key is not valid Unicode
cause-unknown-role = The role is not known
cause-refused-by-database = The database refuses the data

refused-title = Refused
refused-meaning = Requests to the callback address that were not taken, by cause. Those that name no app of this service are counted for each app.
refused-none = Nothing was refused since this process began.
refused-table = Refused requests by cause
refused-hour-text = { $sum } in the last hour, minute by minute
column-lately = Last 5 min
column-hour = Last hour
column-since-start = Since the start
column-last = Last one
column-remedy = What to do
refusal-app = Another app
remedy-app = Is SDK_APP_ID the app whose console has this address?
refusal-missing = No signature
remedy-missing = Switch on callback authentication in Tencent's console.
refusal-stale = Signature too old, or from the future
remedy-stale = Set the clock of this host right (NTP).
refusal-wrong = Signature wrong
remedy-wrong = Set CALLBACK_TOKEN to the token of Tencent's console.
refusal-browser = Sent by a browser
remedy-browser = Nothing: callbacks come from Tencent's servers.
refusal-loop = Relayed already by a mirror
remedy-loop = RELAY_URL has to lead to the backend itself, here and there.
refusal-path = No such path
remedy-path = The address in Tencent's console has to end in / or /callback.
refusal-method = Wrong method
remedy-method = Callbacks are sent by POST: does a proxy change the method?
refusal-malformed = Not HTTP/1, or a head over its limit
remedy-malformed = Does a proxy in front speak HTTP/2 or another protocol to this port?
refusal-tls = TLS spoken to a port without TLS
remedy-tls = The address has to begin with http, or a proxy has to end TLS.
refusal-plain-http = Plain HTTP spoken to a port with TLS
remedy-plain-http = The address has to begin with https, or a proxy in front has to speak TLS.
refusal-tls-version = No shared version of TLS
remedy-tls-version = This port speaks TLS 1.2 and 1.3; the caller offers older ones.
refusal-tls-unshared = No shared cipher suite or protocol
remedy-tls-unshared = Does the caller offer HTTP/2 alone, or suites without forward secrecy?
refusal-tls-refused = The caller ended the TLS handshake
remedy-tls-refused = Does it know the authority of the certificate, is the chain whole, has the certificate expired?
refusal-client-certificate = No client certificate of the wanted authority
remedy-client-certificate = Tencent's servers present none; a proxy in front can.
refusal-slow-handshake = TLS handshake too slow
remedy-slow-handshake = Is the network stuck, or does something open connections and send nothing?
refusal-handshake = TLS handshake broken
remedy-handshake = Does the sender speak TLS to this port, is the network cut?
refusal-slow-head = Head of a request too slow
remedy-slow-head = Is the network or a proxy stuck?
refusal-too-large = Body over 1 MiB
remedy-too-large = No callback of Tencent is that large: what sends it?
refusal-broken-off = Connection closed inside the request
remedy-broken-off = Does a proxy time out or cut bodies?
refusal-budget = Body too slow
remedy-budget = Is the network or a proxy slow?
refusal-reading = Too many bodies read at once
remedy-reading = Do senders or a proxy stall inside bodies?
refusal-not-durable = Not made durable
remedy-not-durable = Neither database nor spool took it: see the gaps on the page of health.
refusal-fault = Fault of the service
remedy-fault = Please report the panic in the log.

not-kept-title = Answered and not kept
not-kept-meaning = Authentic callbacks that a mirror of groups has no use for: messages, presence, commands before an event. They are answered, passed on to the backend where there is one, and not stored.
not-kept-none = None came since this process began.
not-kept-other = Commands of other families (C2C, presence, friends)
not-kept-table = Commands that are not kept

health-process = Spool, feed and refusals are those of the process that answers:
health-check = More is looked at by this command on the machine of the service: rights, the data directory, Tencent's REST API, the switches of the callbacks.
level-good = as it should be
level-unknown = not known at the moment
level-warning = needs a look
level-wrong = does not work
card-since = since
card-what-to-do = What to do:
card-not-asked = The database does not answer.
card-database = Database
card-database-meaning = While callbacks are committed to it, what these pages show is as new as the last callback. While they are not, callbacks wait in the spool, if it takes them, and the pages show what was.
card-database-remedy = See whether PostgreSQL runs, has room on its disk and takes writes. Callbacks are kept meanwhile if the spool takes them, and it empties by itself.
card-server = Server
card-server-connections = { $used } of { $most } connections are used
card-server-standby = It is a standby.
card-server-meaning = One service takes at most 32 connections.
card-server-remedy = Name the primary in DATABASE_URL, or raise max_connections.
card-reads = Reads
card-reads-standby = Lists and lookups are read from the standby.
card-reads-primary = Lists and lookups are read from the primary:
card-reads-meaning = READ_DATABASE_URL names a standby, so that reads leave the primary to the callbacks. The feed is read from the primary.
card-reads-remedy = Start the standby, or look at its replication. It is used again by itself once it has caught up.
card-spool = Spool
card-spool-meaning = The durable queue on this machine for the time when the database does not commit.
card-spool-remedy = What waits reaches the tables once the database commits. Where the spool takes nothing: make room on the volume of DATA_DIR, or raise SPOOL_MAX_BYTES.
card-aside = Set aside
card-aside-count = { $count ->
    [0] Nothing is set aside.
    [one] { $shown } group, command, callback or shard is set aside:
   *[other] { $shown } groups, commands, callbacks or shards are set aside:
 }
card-aside-meaning = What fails by itself while all else is committed waits in the spool and is tried apart.
card-aside-remedy = The log line “set aside” has the server's words: look for a lock that a session holds, or a right that is missing. It is applied by itself then.
card-clock = Clocks
card-clock-apart = The database's clock and this host's differ by { $ms } ms.
card-clock-meaning = Signatures of Tencent count for a short time only, and leases by the database's clock.
card-clock-remedy = Synchronise both hosts (NTP).
card-delays = From event to receipt
card-delays-none = No callback with an event time came in the last day.
card-delays-found = Of { $count } callbacks of the last day the quickest took { $least } ms, half of them at most { $median } ms.
card-delays-meaning = The event times are Tencent's. Received before the event: this host's clock is behind.
card-delays-remedy = Set the clock of this host right (NTP), or look for what holds callbacks up.
card-volume = Volume
card-volume-keeps = The data directory is on a volume that keeps.
card-volume-forgets = The data directory is on a volume that a restart of the machine empties.
card-volume-meaning = The spool is as durable as its volume.
card-volume-remedy = Set DATA_DIR to a directory on a disk.
card-feed = Feed
card-feed-followers = { $count ->
    [one] { $count } follower
   *[other] { $count } followers
 }
card-feed-behind = { $count ->
    [one] It is behind for { $count } second.
   *[other] It is behind for { $count } seconds.
 }
card-feed-meaning = Programs and open pages that follow the ledger as it grows.
card-feed-remedy = A writing transaction stays open on the database, or the ledger cannot be read: see the log.
card-refusals = Refusals
card-refusals-meaning = A wrong token or address leaves a healthy service with an empty mirror.
card-refusals-remedy = See the causes with their remedies on the page of what is parked and refused.
card-passes = Passes over Tencent's REST API
card-passes-none = There was none: nothing is read from Tencent.
card-passes-found = Pass { $number } ({ $kind }), phase { $phase }; { $asked } groups were asked for.
card-passes-meaning = They find what no callback says, and close gaps.
card-passes-remedy = The line above says why it stopped, and `group-mirror check` what to set. It is tried again by itself.
card-relay = Relay
card-relay-waits = { $count ->
    [0] No callback waits for the backend.
    [one] { $shown } callback waits for the backend.
   *[other] { $shown } callbacks wait for the backend.
 }
card-relay-outage = The backend took a callback last { $ago }.
card-relay-meaning = Stored callbacks are passed on to the backend behind the mirror, in order for each group.
card-relay-remedy = See whether the backend of RELAY_URL runs. What waits is delivered by itself.
gaps-title = Gaps
gaps-meaning = Periods in which callbacks could not be made durable. What they may have touched is read from Tencent again; a gap closes once all of it is verified.
gap-begin = From
gap-end = To
gap-callbacks = Callbacks
gap-groups = Groups verified again
gap-verified = { $verified } of { $groups }
gap-state = State
gap-open = open
gap-closed = closed
