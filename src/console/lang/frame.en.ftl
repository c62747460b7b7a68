# The frame of every page: first line, navigation, choices, errors, login.

nav = Pages
nav-live = Live
nav-groups = Groups
nav-moment = Moment
nav-parked = Parked and refused
nav-health = Health
nav-docs = API
docs-need-script = This page needs a script. The document is the file above.
skip = Skip to the content
search-label = Group id, user id or part of a group name
search-hint = Group, person or name
search-button = Search
apps = App
caller = Logged in as
log-out = Log out
foot-reads-only = reads only: nothing on these pages changes a group

trust-good = Live
trust-bad = Look here
trust-last-callback = last callback { $ago }
trust-no-callback = no callback yet
trust-database-ok = database ok
trust-database-away = database away: callbacks wait in the spool
trust-database-away-alone = database away, spool takes no callback
trust-database-unfit = database not usable
trust-spool = { $count ->
    [0] spool empty
   *[other] { $shown } in the spool
 }
trust-spool-opening = spool being opened
trust-spool-failed = spool takes nothing
trust-parked = { $shown } parked
trust-refused = { $count ->
    [0] none refused in the last hour
   *[other] { $shown } refused in the last hour
 }
trust-gaps-open = { $count ->
    [one] { $count } open gap
   *[other] { $count } open gaps
 }
trust-gaps-closed = all gaps closed
trust-no-gap = no gap known
trust-stale = No connection: what this page shows is from before. It tries again.
ago-seconds = { $count ->
    [one] { $count } second ago
   *[other] { $count } seconds ago
 }
ago-minutes = { $count ->
    [one] { $count } minute ago
   *[other] { $count } minutes ago
 }
ago-hours = { $count ->
    [one] { $count } hour ago
   *[other] { $count } hours ago
 }
ago-days = { $count ->
    [one] { $count } day ago
   *[other] { $count } days ago
 }

choices = Language, time zone, colours
choice-language = Language
choice-zone = Time zone
choice-theme = Colours
choice-keys = Single keys
choice-all-zones = All time zones
choices-keep = Keep
zones-meaning = Every time on every page, and every time in a form, is in this zone.
theme-auto = As the system
theme-light = Light
theme-dark = Dark
keys-on = are shortcuts
keys-off = do nothing
keys-title = Keys
key-search = Search
key-pause = Pause the live list
key-steps = One event earlier, later
key-theme = Next colours
key-keys = Show these keys

unknown = not known
counted-at = counted
pager = More of the list
pager-first = First page
list-as-csv = This list as CSV
pager-next = Next page

login-title = Log in
login-token = API token
login-hint = A token out of API_TOKEN in the settings of the service. It stays out of addresses and logs, and the session ends after 12 hours.
login-button = Log in
login-wrong = This token is not known here. Is it whole, and is it one of API_TOKEN?
login-too-many = Too many wrong tokens at once. Wait a few seconds and try again.
login-other-site = This form was sent by a page of another site. Open this page by its address and try again.
login-plain-http = This page came over plain HTTP from another machine. The browser will not keep the session: open the console by HTTPS, or through a tunnel to this machine.
login-not-needed = This service is read without a login, from its own machine only.

error-not-found = Not known here
error-not-found-meaning = There is no such page, group or person. An id has to be whole, with capital and small letters as they are.
error-bad-request = This cannot be read
error-bad-request-meaning = A part of the address or of the form cannot be used.
error-gone = This list has changed
error-gone-meaning = The place in the list does not exist any more. Begin at its first page.
error-pruned = This is too long ago
error-pruned-meaning = The entries of that time were pruned. Choose a later moment.
error-too-large = Too much at once
error-too-large-meaning = This page would need more work than one read may take. A shorter time or more filters help.
error-unauthorized = Please log in
error-unauthorized-meaning = This page needs a login.
error-forbidden = Not for this login
error-forbidden-meaning = The login is known, and has no right to this.
error-method = Not done this way
error-method-meaning = This address is read with GET.
error-unavailable = Not readable just now
error-unavailable-meaning = The mirror cannot read this at the moment. Callbacks are taken and kept all the same; the first line says how the database is.
error-internal = A fault of the service
error-internal-meaning = The log of the service has the cause under the request id below.
error-try-again = Try again
error-request-id = Request id
