# Sentences about ledger entries. Placeholders that are people, groups, values and Tencent's words are put in as links or
# marked text: a translation may place them in any order, and may leave none out.
# $known is "yes" where the callback names who acted. Names that end with -here stand on the page of the group itself.

event-created = { $known ->
    [yes] { $by } created { $group }
   *[no] { $group } was created
 }
event-created-here = { $known ->
    [yes] { $by } created the group
   *[no] The group was created
 }
event-joined = { $people } joined { $group }
event-joined-here = { $people } joined
event-invited = { $known ->
    [yes] { $by } brought { $people } into { $group }
   *[no] { $people } came into { $group } by invitation
 }
event-invited-here = { $known ->
    [yes] { $by } brought in { $people }
   *[no] { $people } came in by invitation
 }
event-left = { $people } left { $group }
event-left-here = { $people } left
event-removed = { $known ->
    [yes] { $by } removed { $people } from { $group }
   *[no] { $count ->
        [one] { $people } was removed from { $group }
       *[other] { $people } were removed from { $group }
     }
 }
event-removed-here = { $known ->
    [yes] { $by } removed { $people }
   *[no] { $count ->
        [one] { $people } was removed
       *[other] { $people } were removed
     }
 }
event-exited = { $count ->
    [one] { $people } is no longer in { $group }
   *[other] { $people } are no longer in { $group }
 }
event-exited-here = { $count ->
    [one] { $people } is no longer in the group
   *[other] { $people } are no longer in the group
 }
event-destroyed = { $known ->
    [yes] { $by } dismissed { $group }
   *[no] { $group } was dismissed
 }
event-destroyed-here = { $known ->
    [yes] { $by } dismissed the group
   *[no] The group was dismissed
 }
event-profile = { $known ->
    [yes] { $by } changed the profile of { $group }
   *[no] The profile of { $group } was changed
 }
event-profile-here = { $known ->
    [yes] { $by } changed the profile
   *[no] The profile was changed
 }
event-admin = { $known ->
    [yes] { $by } made { $people } an administrator of { $group }
   *[no] { $people } became an administrator of { $group }
 }
event-admin-here = { $known ->
    [yes] { $by } made { $people } an administrator
   *[no] { $people } became an administrator
 }
event-ordinary = { $known ->
    [yes] { $by } made { $people } an ordinary member of { $group }
   *[no] { $people } became an ordinary member of { $group }
 }
event-ordinary-here = { $known ->
    [yes] { $by } made { $people } an ordinary member
   *[no] { $people } became an ordinary member
 }
event-card = { $known ->
    [yes] { $by } changed the name card of { $people } in { $group }
   *[no] The name card of { $people } in { $group } was changed
 }
event-card-here = { $known ->
    [yes] { $by } changed the name card of { $people }
   *[no] The name card of { $people } was changed
 }
event-member = { $known ->
    [yes] { $by } changed the membership of { $people } in { $group }
   *[no] The membership of { $people } in { $group } was changed
 }
event-member-here = { $known ->
    [yes] { $by } changed the membership of { $people }
   *[no] The membership of { $people } was changed
 }
event-attributes = { $known ->
    [yes] { $by } changed the attributes of { $group }
   *[no] The attributes of { $group } were changed
 }
event-attributes-here = { $known ->
    [yes] { $by } changed the attributes
   *[no] The attributes were changed
 }
event-owner = { $known ->
    [yes] { $by } made { $people } the owner of { $group }
   *[no] { $people } became the owner of { $group }
 }
event-owner-here = { $known ->
    [yes] { $by } made { $people } the owner
   *[no] { $people } became the owner
 }
event-ownerless = { $group } has no owner any more
event-ownerless-here = The group has no owner any more
event-topic-created = { $known ->
    [yes] { $by } opened the topic { $topic } in { $group }
   *[no] The topic { $topic } was opened in { $group }
 }
event-topic-created-here = { $known ->
    [yes] { $by } opened the topic { $topic }
   *[no] The topic { $topic } was opened
 }
event-topic-destroyed = { $known ->
    [yes] { $by } deleted the topic { $topic } of { $group }
   *[no] The topic { $topic } of { $group } was deleted
 }
event-topic-destroyed-here = { $known ->
    [yes] { $by } deleted the topic { $topic }
   *[no] The topic { $topic } was deleted
 }
event-topic-changed = { $known ->
    [yes] { $by } changed the topic { $topic } of { $group }
   *[no] The topic { $topic } of { $group } was changed
 }
event-topic-changed-here = { $known ->
    [yes] { $by } changed the topic { $topic }
   *[no] The topic { $topic } was changed
 }
event-topic-unnamed = { $known ->
    [yes] { $by } changed a topic of { $group }; the callback does not say which
   *[no] A topic of { $group } was changed; the callback does not say which
 }
event-topic-unnamed-here = { $known ->
    [yes] { $by } changed a topic; the callback does not say which
   *[no] A topic was changed; the callback does not say which
 }
event-unread = Not understood: { $command } about { $group }
event-unread-here = Not understood: { $command }
event-unread-nowhere = Not understood: { $command }, without a group that can be read
event-foreign = { $command } about { $group }: written by another version, not readable here
event-foreign-here = { $command }: written by another version, not readable here

read-profile = Read from Tencent: the profile of { $group }
read-profile-here = Read from Tencent: the profile
read-gone = Read from Tencent: { $group } does not exist
read-gone-here = Read from Tencent: the group does not exist
read-members = Read from Tencent: the members of { $group }
read-members-here = Read from Tencent: the members
read-attributes = Read from Tencent: the attributes of { $group }
read-attributes-here = Read from Tencent: the attributes
read-topics = Read from Tencent: the topics of { $group }
read-topics-here = Read from Tencent: the topics

detail-with = with { $people }
detail-by = operator: { $by }
detail-owner = owner: { $people }
detail-owner-before = owner before: { $people }
detail-card = name card: { $value }
detail-type = type: { $value }
detail-name = name: { $value }
detail-introduction = introduction: { $value }
detail-notification = notice: { $value }
detail-face-url = picture: { $value }
detail-field = field { $key }: { $value }
detail-attribute = attribute { $key }: { $value }
detail-attribute-gone = attribute { $key }: deleted
detail-attributes-only = and no other attribute
detail-attributes-cleared = all attributes are deleted
detail-attributes-unclear = the callback does not say what changed
detail-listed = { $count ->
    [one] one member listed
   *[other] { $count } members listed
 }
detail-missing = no longer in the list: { $people }
detail-topics = { $count ->
    [one] one topic
   *[other] { $count } topics
 }
detail-topic = topic: { $topic }
detail-word = Tencent’s word: { $word }
detail-partial = in part not understood: { $value }
detail-reason = reason: { $value }
detail-platform = on { $value }
detail-address = from { $value }
detail-more = { $count ->
    [one] one more detail
   *[other] { $count } more details
 }
value-empty = (empty)
list-separator = {", "}
list-more = { $count ->
    [one] {" "}and one more
   *[other] {" "}and { $count } more
 }

deed-create = created
deed-join = joined
deed-leave = left
deed-removal = removed
deed-destroy = dismissed
deed-profile = profile changed
deed-member = role or card changed
deed-attributes = attributes changed
deed-owner = owner changed
deed-topic = topic changed
deed-read = read from Tencent
deed-unread = not understood
