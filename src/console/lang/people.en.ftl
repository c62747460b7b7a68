# The pages of a group, a person and a moment. $by, $group and $time are put in as links: a translation may place them in
# any order.

# A group, now or then
group-tabs = Parts of this page
group-tab-members = Members
group-tab-events = What happened
group-tab-fields = Fields and attributes
group-tab-topics = Topics
group-tab-raw = Raw entries
group-members = members
group-of-most = of at most
group-owner = owner
group-creator = creator
group-created = created
group-destroyed = dismissed
group-introduction = introduction
group-notification = notice
group-face-url = picture
group-join-option = who may join
group-invite-option = who may invite
group-mute = all muted
group-muted = yes
group-not-muted = no
group-verified = profile checked with Tencent
group-members-verified = members checked with Tencent
group-never = never
group-not-yet = Nothing was known of this group at that moment.

role-owner = owner
role-admin = administrator
role-member = member
member-user = user
member-role = role
member-card = name card
member-since = since
member-came = how and by whom
member-until = until
member-went = how and by whom it ended
members-present = members
members-left = gone
members-all = both
members-none = No member fits these filters, or none is known.
members-none-here = None among those that were looked through; the next page goes on.
came-invited-by = brought in by { $by }
came-invited = brought in
came-applied-by = joined; operator { $by }
came-applied = joined
came-by = operator { $by }
came-otherwise = Tencent’s word: { $how }
went-removed-by = removed by { $by } ({ $how })
went-removed = removed ({ $how })
went-left = left
went-otherwise = Tencent’s word: { $how }
went-unknown = not known: the group ended, or a list of Tencent left the user out

fields-key = key
fields-kind = kind
fields-value = value
fields-written = written
fields-field = field
fields-attribute = attribute
fields-none = No field and no attribute is known.
fields-no-times = When each value was written stands under “What happened”.
fields-cut = There are more than are shown here; the API has them all.
fields-too-many = There are more fields and attributes than a page about the past keeps.
topics-none = No topic is known.
topics-of-now = Topics are shown as they are now, not as they were then.
topic-name = name
topic-id = id
topic-status = status
topic-creator = creator
topic-created = created

filters = Filters
filter-kind = Kind
filter-person = Person
filter-source = Source
filter-after = After
filter-before = Before
filter-user-part = Part of an id or card
filter-status = Which
filter-role = Role
filter-part = Part
entries-none = Nothing of this kind is known.
entries-none-here = Nothing of this kind among the newest entries; the next page looks further back.
entries-pruned = Older entries were pruned; the list is whole from here on:
as-table = The same as a table (CSV)

# Time rail
rail-title = Time rail: members and events
rail-none = This group has more history than a line is drawn for at once. The steps and the field below go on working.
rail-most = most members:
rail-steps = Steps from event to event
step-earlier = earlier
step-later = later
step-now = now
step-first = nothing earlier
step-last = this is now
moment-field = Show the group as it was at
moment-field-app = Moment
moment-show = Show

# The past
past-label = This page shows the past
past-title = as it was then
past-shows = You are looking at the past:
past-to-now = Back to now
past-everywhere = What happened everywhere at that time
past-not-compared = Who has come and gone since then cannot be compared: the group is too large to be folded as it is now.
past-came = Came later
past-gone = Gone since

# Raw entries
raw-title = Raw entries
raw-back = Back to the group
raw-logged = Each look at this page is written to the access log with the name of its caller.
raw-time = time
raw-received = received
raw-source = source
raw-digest = digest
raw-request-id = request id
raw-reason = reason
raw-platform = platform
raw-address = client address
raw-bytes = bytes
raw-hex = The bytes are no UTF-8; each is shown as two hexadecimal digits.
raw-cut = The body goes on; the API hands it out whole.

# What is not known
unknowns-title = What is not known here, and why
unknown-before = Anything before the first entry of this group, of
unknown-room = Who is in this audio-video room: its membership is not mirrored.
unknown-members = Whether there are other members: neither a create nor a complete list of members is known.
unknown-mutes = Mutes of members, as no callback reports them; only reads from Tencent do.
unknown-messages = Messages and who is online: the mirror does not keep them.

# A person
person-groups-now = Groups now
person-groups-left = Groups left
person-no-groups-now = In no group, as far as the mirror knows.
person-no-groups-left = No group left, as far as the mirror knows.
person-group = group
person-history = Done and suffered, over all groups
person-first-seen = first seen
person-last-seen = last seen
person-platforms = platforms
person-addresses = client addresses
person-unknowns = Platforms are those of the person’s newest acts. The mirror knows no profile of a person: no name, no picture, no friends.
part-operator = did it
part-member = it was done to
part-owner = owner
suffered-nothing = Nothing was done to this person lately, as far as the mirror knows.
suffered-separator = {", "}

# A moment of the app
moment-title = What happened at a moment
moment-window = Window
moment-around = Around
moment-newest = The newest entries
moment-none = Nothing is known of that time.
moment-counts = Entries of this page by kind
moment-part = The counts are those of this page; more entries follow on the next one.
moment-no-group = Without a group that can be read

past-difference = { $then ->
    [one] One member then
   *[other] { $then } members then
 }, { $now } now: { $came } came later, { $gone ->
    [one] one is gone
   *[other] { $gone } are gone
 }.
moment-minutes = { $count ->
    [one] one minute to either side
   *[other] { $count } minutes to either side
 }
suffered-removed = { $known ->
    [yes] Removed from { $group } by { $by } on { $time }
   *[no] Removed from { $group } on { $time }
 }
suffered-admin = { $known ->
    [yes] Made an administrator of { $group } by { $by } on { $time }
   *[no] Became an administrator of { $group } on { $time }
 }
suffered-ordinary = { $known ->
    [yes] Made an ordinary member of { $group } by { $by } on { $time }
   *[no] Became an ordinary member of { $group } on { $time }
 }
suffered-card = { $known ->
    [yes] Name card in { $group } changed by { $by } on { $time }
   *[no] Name card in { $group } changed on { $time }
 }
suffered-with = { $count ->
    [one] with one other within five minutes
   *[other] with { $count } others within five minutes
 }
suffered-with-at-least = with at least { $count } others within five minutes
