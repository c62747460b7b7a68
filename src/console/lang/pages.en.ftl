# The pages: live, groups, search, parked and refused, health.

live-happens = As it happens
live-pause = Pause
live-new = { $count ->
    [one] { $shown } new entry
   *[other] { $shown } new entries
 }
live-zone = Times are in the zone
live-nothing = Nothing has come lately. What is older stands on the pages of groups and people.
live-no-list = The list cannot be read just now; callbacks are taken all the same.
live-cut = More came than is shown here; it stands on the pages of groups and people.
live-process = Figures of the last hour are those of this process since its start:
live-hour = Charts show { $from } to { $to } ({ $zone }).
live-callbacks = Callbacks
live-per-minute = in the last whole minute
live-callbacks-text = { $sum } in the last hour, at most { $most } in a minute
live-answers = Answer time, 99 of 100
live-of-two-seconds = of the 2 seconds that Tencent waits
live-answers-text = In the last hour 99 of 100 callbacks were answered within: { $p99 }
live-no-answer = none yet
live-groups = Groups
live-not-counted = not counted yet
status-active = active
status-destroyed = dismissed
status-unseen = not seen whole
status-all = all
no-group = a group that cannot be read
outcome-partial = read in part
outcome-parked = parked

steps-waiting = Waiting for the first callback
steps-came = The first callback has come
steps-console = Give Tencent the address
steps-console-how = In Tencent's console, under Callback (Webhook) configuration, enter the address by which Tencent reaches this service, and switch on the group callbacks "after":
steps-listener = This service listens for callbacks at
steps-token = Switch on authentication there with the same token as CALLBACK_TOKEN in the settings of this service.
steps-send = Or send one yourself, now, from the machine of the service
steps-demo = Or fill the mirror with a small world to look around in

groups-counted = { $count ->
    [one] About { $shown } active group
   *[other] About { $shown } active groups
 }
groups-table = Groups
groups-none = No group is known yet
groups-none-hint = How to send the first callback
groups-none-fit = No group fits these filters
groups-none-fit-hint = Show all groups
column-group = Group
column-person = Person
column-type = Type
column-status = Status
column-owner = Owner
column-members = Members
column-created = Created
column-changed = Last change
filter-any = any
filter-name = Name holds
filter-member = Has the member
filter-created-after = Created after
filter-created-before = Created before
filter-sort = Order
filter-count-members = Count members
filter-apply = Filter
filter-clear = Without filters
filter-zone = Times are read in the zone
sort-newest = Newest first
sort-oldest = Oldest first
sort-id = By id
sort-verified = Longest unverified first
search-title = Search
search-for = Names that hold:
search-nothing = Nothing is known by this id or name
search-nothing-hint = All groups
search-all = All groups whose name holds this
search-both = A group and a person have this id:
