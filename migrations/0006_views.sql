-- What is true, for people and for the read API. `…_states` show every row with what follows from stamps and barriers;
-- `active_…` show what is true now, without what is gone. The same rules stand in Rust (mirror/state.rs, mirror/life.rs),
-- and tests compare both.

-- For pages of entries, which name the group of each. It reads one table, so that a lock on another one, of members say,
-- holds up no reader of the feed: a view takes the locks of all its tables, whichever columns are asked for.
CREATE VIEW group_names AS
SELECT sdk_app_id, group_id,
       -- The barrier is `profile_barrier` of `group_states`.
       CASE WHEN name_stamp >= CASE WHEN status = 'destroyed' THEN create_barrier
                                    ELSE GREATEST(create_barrier, destroyed_stamp, gone_stamp) END
            THEN name END AS name
  FROM groups;

CREATE VIEW group_states AS
SELECT s.sdk_app_id, s.group_id, s.status,
       CASE WHEN s.type_stamp >= s.profile_barrier THEN s.type END AS type,
       CASE WHEN s.name_stamp >= s.profile_barrier THEN s.name END AS name,
       CASE WHEN s.owner_stamp >= s.profile_barrier
             -- A Work group goes on existing without the owner who left it, and no callback says so.
             AND NOT (s.type IS NOT DISTINCT FROM 'Work' AND s.type_stamp >= s.profile_barrier
                      AND EXISTS (SELECT FROM group_members o
                                   WHERE o.sdk_app_id = s.sdk_app_id AND o.group_id = s.group_id
                                     AND o.user_id = s.owner AND GREATEST(o.leave_stamp, o.missing_stamp) > s.owner_stamp))
            THEN s.owner END AS owner,
       CASE WHEN s.created_stamp >= s.profile_barrier THEN s.created_by END AS created_by,
       CASE WHEN s.introduction_stamp >= s.profile_barrier THEN s.introduction END AS introduction,
       CASE WHEN s.notification_stamp >= s.profile_barrier THEN s.notification END AS notification,
       CASE WHEN s.face_url_stamp >= s.profile_barrier THEN s.face_url END AS face_url,
       s.created_at, s.updated_at, s.destroyed_at,
       CASE WHEN s.silent_stamp >= s.profile_barrier THEN s.apply_join_option END AS apply_join_option,
       CASE WHEN s.silent_stamp >= s.profile_barrier THEN s.invite_join_option END AS invite_join_option,
       CASE WHEN s.silent_stamp >= s.profile_barrier THEN s.mute_all END AS mute_all,
       CASE WHEN s.silent_stamp >= s.profile_barrier THEN s.max_member_count END AS max_member_count,
       -- Callbacks say who joins and leaves; all members are known from a create or a complete list of this life on.
       CASE WHEN GREATEST(s.created_stamp, s.members_barrier) >= GREATEST(s.profile_barrier, '\x00') THEN true
            WHEN s.ranges_stamp >= GREATEST(s.profile_barrier, '\x00')
            THEN (SELECT count(*) = 256 FROM group_list_ranges x
                   WHERE x.sdk_app_id = s.sdk_app_id AND x.group_id = s.group_id AND x.list_stamp >= s.profile_barrier)
            ELSE false END AS has_all_members,
       GREATEST(s.profile_barrier, s.fields_barrier) AS fields_from,
       GREATEST(s.profile_barrier, s.attributes_barrier) AS attributes_from,
       GREATEST(s.create_barrier, s.destroyed_stamp, s.gone_stamp, s.topics_barrier) AS topics_from,
       s.created_stamp, s.create_barrier, s.destroyed_stamp, s.gone_stamp, s.members_barrier, s.topics_barrier, s.ranges_stamp,
       s.earlier_ends,
       -- For indexes and statistics, which know columns and not what follows from them.
       s.type AS newest_type, s.name_caseless AS newest_name_caseless, s.owner AS newest_owner, s.updated_step
  FROM (SELECT g.*,
               -- A destroyed group still shows the newest profile it had.
               CASE WHEN g.status = 'destroyed' THEN g.create_barrier
                    ELSE GREATEST(g.create_barrier, g.destroyed_stamp, g.gone_stamp) END AS profile_barrier
          FROM groups g) s;

-- `complete` is the newest complete list that the user would stand in, `read` the list that names the user, `list_from` the
-- same where it counts for this stay (else NULL). Of what both callbacks and lists say, the newer counts. The planner
-- repeats an expression wherever it is named, so each is named as seldom as can be.
CREATE VIEW group_member_states AS
SELECT s.sdk_app_id, s.group_id, s.user_id, s.present,
       CASE WHEN NOT s.present THEN 'Member'
            WHEN s.user_id = s.group_owner THEN 'Owner'
            WHEN s.list_from >= s.role_stamp THEN s.listed_role
            WHEN s.role_stamp > s.leave_stamp AND s.role_stamp >= s.barrier THEN s.role
            ELSE 'Member' END AS role,
       CASE WHEN s.list_from >= s.name_card_stamp THEN s.listed_name_card
            WHEN s.present AND s.name_card_stamp > s.leave_stamp AND s.name_card_stamp >= s.barrier
            THEN s.name_card END AS name_card,
       CASE WHEN s.join_shown THEN s.joined_at
            WHEN s.list_from >= s.join_stamp THEN to_timestamp(s.listed_join_secs) END AS joined_at,
       CASE WHEN s.join_shown THEN s.join_type END AS join_type,
       CASE WHEN s.join_shown THEN s.joined_by END AS joined_by,
       CASE WHEN s.present THEN NULL
            WHEN s.by_list THEN to_timestamp(('x' || encode(substring(s.missing_stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)
            WHEN s.has_quit THEN s.ended_at
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     -- The first end of the group after the arrival. A create ends what is older than its barrier, at its
                     -- own time; a destroyed group ends also what is stamped after the destroy and did not undo it. Ends of
                     -- earlier lives are looked at only where the id was used again.
                     COALESCE(LEAST(-- A create may be known by a read alone.
                                    CASE WHEN s.create_barrier > s.arrived
                                         THEN GREATEST(s.created_stamp, int8send(('x' || encode(substring(s.create_barrier FROM 1 FOR 8), 'hex'))::bit(64)::bigint + 10000) || '\x000000000000000000'::bytea) END,
                                    CASE WHEN s.destroyed_stamp > s.arrived THEN s.destroyed_stamp END,
                                    CASE WHEN s.earlier_ends > '' THEN (
                                        SELECT e.stamp
                                          FROM (SELECT substring(s.earlier_ends FROM n FOR 17) AS stamp
                                                  FROM generate_series(1, length(s.earlier_ends), 17) n) e
                                         WHERE CASE WHEN get_byte(e.stamp, 8) = 1 -- a create
                                                    THEN int8send(('x' || encode(substring(e.stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint - 10000)
                                                         || '\x000000000000000000'::bytea
                                                    ELSE e.stamp END > s.arrived
                                         ORDER BY e.stamp LIMIT 1) END,
                                    CASE WHEN s.gone_stamp > s.arrived THEN s.gone_stamp END,
                                    CASE WHEN s.complete > s.arrived THEN s.complete END),
                              GREATEST(s.destroyed_stamp, s.gone_stamp)), '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS left_at,
       CASE WHEN s.has_quit AND NOT s.by_list THEN s.exit_type END AS exit_type,
       CASE WHEN s.has_quit AND NOT s.by_list THEN s.left_by END AS left_by,
       CASE WHEN s.list_from IS NOT NULL THEN to_timestamp(s.mute_until_secs) END AS mute_until,
       CASE WHEN s.list_from IS NOT NULL THEN s.custom_fields END AS custom_fields
  FROM (SELECT p.*,
               -- A list that left the user out ended the stay, unless something newer is known of it.
               NOT p.present AND p.missing_stamp > GREATEST(p.arrived, p.leave_stamp) AS by_list,
               CASE -- A list that is newer than the join and gives a JoinTime near it (3 s) means the same join.
                    WHEN p.list_from >= p.join_stamp
                    THEN p.join_stamp > p.leave_stamp
                     AND COALESCE(p.joined_at BETWEEN to_timestamp(p.listed_join_secs) - interval '3 s'
                                                  AND to_timestamp(p.listed_join_secs) + interval '3.999 s',
                                  p.join_stamp >= p.life_barrier)
                    -- A stay whose join belongs to an earlier one has a beginning that is not known.
                    ELSE (p.has_quit OR p.join_stamp > p.leave_stamp)
                     AND (NOT p.present OR p.join_stamp >= p.barrier) END AS join_shown
          FROM (SELECT r.*, GREATEST(r.join_stamp, r.confirmed_stamp, r.read) AS arrived,
                       r.ended_at IS NOT NULL AND r.leave_stamp >= r.read AS has_quit,
                       -- A list that counts is not older than the newest complete one.
                       CASE WHEN r.group_exists AND r.read > r.leave_stamp AND r.read >= r.life_barrier
                            THEN r.read END AS list_from,
                       r.group_exists AND (r.ended_at IS NULL OR r.read > r.leave_stamp)
                       -- Without a sign of membership all of these are empty, and less than this.
                       AND GREATEST(r.join_stamp, r.confirmed_stamp, r.read) >= GREATEST(r.barrier, '\x00') AS present
                  FROM (SELECT l.*, GREATEST(l.life_barrier, l.complete) AS barrier,
                               CASE WHEN l.is_listed THEN l.complete ELSE l.read_stamp END AS read
                          FROM (SELECT m.*, m.left_at AS ended_at, g.created_stamp, g.create_barrier, g.destroyed_stamp, g.gone_stamp,
                                       g.earlier_ends,
                                       g.owner AS group_owner, g.status <> 'destroyed' AS group_exists,
                                       GREATEST(g.create_barrier, g.destroyed_stamp, g.gone_stamp) AS life_barrier,
                                       GREATEST(g.members_barrier, x.list_stamp) AS complete
                                  FROM group_members m
                                  JOIN group_states g ON g.sdk_app_id = m.sdk_app_id AND g.group_id = m.group_id
                                  -- No range is looked for in a group that has none: the key is NULL then.
                                  LEFT JOIN group_list_ranges x
                                    ON x.sdk_app_id = m.sdk_app_id AND x.group_id = m.group_id
                                   AND x.range = CASE WHEN g.ranges_stamp > g.members_barrier
                                                      THEN left(encode(sha256(convert_to(m.user_id, 'UTF8')), 'hex'), 2) END) l) r) p) s
 WHERE s.arrived > '' OR s.leave_stamp > '' OR s.missing_stamp > '';

CREATE VIEW active_groups AS
SELECT sdk_app_id, group_id, type, name, owner, created_by, introduction, notification, face_url, created_at, updated_at
  FROM group_states WHERE status = 'active';

CREATE VIEW active_group_members AS
SELECT sdk_app_id, group_id, user_id, role, name_card, joined_at, join_type, joined_by
  FROM group_member_states WHERE present;

CREATE VIEW active_group_user_defined_fields AS
SELECT f.sdk_app_id, f.group_id, f.key, f.value
  FROM group_user_defined_fields f
  JOIN group_states g ON g.sdk_app_id = f.sdk_app_id AND g.group_id = f.group_id
 WHERE g.status <> 'destroyed' AND f.value_stamp >= g.fields_from AND f.value IS NOT NULL;

CREATE VIEW active_group_attributes AS
SELECT a.sdk_app_id, a.group_id, a.key, a.value
  FROM group_attributes a
  JOIN group_states g ON g.sdk_app_id = a.sdk_app_id AND g.group_id = a.group_id
 WHERE g.status <> 'destroyed' AND a.value_stamp >= g.attributes_from AND a.value IS NOT NULL;

CREATE VIEW group_topic_states AS
SELECT s.sdk_app_id, s.group_id, s.topic_id, s.active,
       CASE WHEN s.name_stamp >= s.profile_barrier THEN s.name END AS name,
       CASE WHEN s.introduction_stamp >= s.profile_barrier THEN s.introduction END AS introduction,
       CASE WHEN s.notification_stamp >= s.profile_barrier THEN s.notification END AS notification,
       CASE WHEN s.face_url_stamp >= s.profile_barrier THEN s.face_url END AS face_url,
       CASE WHEN s.created_stamp >= s.profile_barrier THEN s.created_by END AS created_by,
       CASE WHEN s.created_stamp >= s.profile_barrier THEN s.created_at END AS created_at,
       CASE WHEN s.active THEN NULL
            WHEN s.missing_stamp > GREATEST(s.newest, s.destroyed_stamp)
            THEN to_timestamp(('x' || encode(substring(s.missing_stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)
            WHEN s.has_ended THEN s.destroyed_at
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     -- The first end of its group after the sign of life, as with members.
                     COALESCE(LEAST(CASE WHEN s.create_barrier > s.newest
                                         THEN GREATEST(s.group_created, int8send(('x' || encode(substring(s.create_barrier FROM 1 FOR 8), 'hex'))::bit(64)::bigint + 10000) || '\x000000000000000000'::bytea) END,
                                    CASE WHEN s.group_destroyed > s.newest THEN s.group_destroyed END,
                                    CASE WHEN s.earlier_ends > '' THEN (
                                        SELECT e.stamp
                                          FROM (SELECT substring(s.earlier_ends FROM n FOR 17) AS stamp
                                                  FROM generate_series(1, length(s.earlier_ends), 17) n) e
                                         WHERE CASE WHEN get_byte(e.stamp, 8) = 1 -- a create
                                                    THEN int8send(('x' || encode(substring(e.stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint - 10000)
                                                         || '\x000000000000000000'::bytea
                                                    ELSE e.stamp END > s.newest
                                         ORDER BY e.stamp LIMIT 1) END,
                                    CASE WHEN s.gone_stamp > s.newest THEN s.gone_stamp END,
                                    CASE WHEN s.topics_barrier > s.newest THEN s.topics_barrier END),
                              GREATEST(s.group_destroyed, s.gone_stamp)), '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS destroyed_at
  FROM (SELECT a.*,
               -- What was said of an earlier life is not shown. A topic that is gone still shows the newest profile it had.
               CASE WHEN a.active THEN GREATEST(a.destroyed_stamp, a.topics_from) ELSE a.created_stamp END
               AS profile_barrier
          FROM (SELECT t.*, g.topics_from, g.created_stamp AS group_created, g.create_barrier,
                       g.destroyed_stamp AS group_destroyed, g.gone_stamp, g.topics_barrier, g.earlier_ends,
                       GREATEST(t.created_stamp, t.alive_stamp, t.read_stamp) AS newest,
                       t.destroyed_at IS NOT NULL AS has_ended,
                       g.status <> 'destroyed' AND t.destroyed_at IS NULL
                       AND GREATEST(t.created_stamp, t.alive_stamp, t.read_stamp) >= g.topics_from AS active
                  FROM group_topics t
                  JOIN group_states g ON g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id) a) s;

CREATE VIEW active_group_topics AS
SELECT sdk_app_id, group_id, topic_id, name, introduction, notification, face_url, created_by, created_at
  FROM group_topic_states WHERE active;

COMMENT ON VIEW group_names IS 'The names that groups have now; reads no other table than groups.';
COMMENT ON COLUMN group_names.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_names.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_names.name IS 'Newest name; NULL where none is known of this life.';
COMMENT ON VIEW group_states IS 'Every group with what follows from its stamps; the …_from columns are barriers, the newest_… ones facts that may not count.';
COMMENT ON COLUMN group_states.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_states.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_states.status IS 'active; unseen until a create or a profile is known; destroyed.';
COMMENT ON COLUMN group_states.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come. NULL where nothing named it.';
COMMENT ON COLUMN group_states.name IS 'Name; NULL where nothing of this life named it.';
COMMENT ON COLUMN group_states.owner IS 'The owner; NULL where there is none, or none is known.';
COMMENT ON COLUMN group_states.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN group_states.introduction IS 'Introduction; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_states.notification IS 'Notice; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_states.face_url IS 'URL of the avatar; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_states.created_at IS 'Event time of the create, else the CreateTime that a read gives; NULL where neither is known.';
COMMENT ON COLUMN group_states.updated_at IS 'Event time of the newest fact about the group, its members included.';
COMMENT ON COLUMN group_states.destroyed_at IS 'Event time of the destroy; NULL unless the group is destroyed.';
COMMENT ON COLUMN group_states.has_all_members IS 'True where a create or a complete list of members is known of this life, so that all members are known; but those of an audio-video room only where they are mirrored.';
COMMENT ON COLUMN group_states.fields_from IS 'Barrier: user-defined fields with an older stamp do not count.';
COMMENT ON COLUMN group_states.attributes_from IS 'Barrier: attributes with an older stamp do not count.';
COMMENT ON COLUMN group_states.apply_join_option IS 'Who may join how; NULL where no read said it.';
COMMENT ON COLUMN group_states.invite_join_option IS 'Who may invite; NULL where no read said it.';
COMMENT ON COLUMN group_states.mute_all IS 'True while all members are muted; NULL where no read said it.';
COMMENT ON COLUMN group_states.max_member_count IS 'How many members the group may have; NULL where no read said it.';
COMMENT ON COLUMN group_states.ranges_stamp IS 'Newest complete list of one range of the members, of a large group.';
COMMENT ON COLUMN group_states.topics_from IS 'Barrier: topics with older stamps have ended.';
COMMENT ON COLUMN group_states.created_stamp IS 'Stamp of the newest create, whose time ends what its barrier outdates.';
COMMENT ON COLUMN group_states.create_barrier IS 'Newest create minus 10 s.';
COMMENT ON COLUMN group_states.destroyed_stamp IS 'Newest destroy.';
COMMENT ON COLUMN group_states.gone_stamp IS 'Newest read that found the group gone.';
COMMENT ON COLUMN group_states.members_barrier IS 'Newest complete list of all members.';
COMMENT ON COLUMN group_states.topics_barrier IS 'Newest complete list of topics.';
COMMENT ON COLUMN group_states.earlier_ends IS 'Older creates and destroys, the greatest first, 17 bytes each: what ended earlier lives of the id.';
COMMENT ON COLUMN group_states.newest_type IS 'Newest type that a body named, be it of an earlier life; for indexes.';
COMMENT ON COLUMN group_states.newest_name_caseless IS 'Caseless form of the newest name that a body named, be it of an earlier life; for searches and indexes.';
COMMENT ON COLUMN group_states.newest_owner IS 'Newest owner that a body named, be it of an earlier life; for indexes.';
COMMENT ON COLUMN group_states.updated_step IS 'Unix milliseconds of updated_at divided by 2^26; for indexes.';

COMMENT ON VIEW group_member_states IS 'Every membership, present or past, with what follows from its stamps.';
COMMENT ON COLUMN group_member_states.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_member_states.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_member_states.user_id IS 'The user, as Tencent writes it; case counts.';
COMMENT ON COLUMN group_member_states.present IS 'True for a member of now.';
COMMENT ON COLUMN group_member_states.role IS 'Owner, Admin or Member; Member where the membership is past.';
COMMENT ON COLUMN group_member_states.name_card IS 'Name card; empty where it was cleared, NULL where none is known or the membership is past.';
COMMENT ON COLUMN group_member_states.joined_at IS 'Event time of the join of this stay, else the JoinTime that a list gives; NULL where neither is known.';
COMMENT ON COLUMN group_member_states.join_type IS 'Apply or Invited; NULL for a member from the start, and where the join is not known.';
COMMENT ON COLUMN group_member_states.joined_by IS 'Operator of the join; NULL where it is not known.';
COMMENT ON COLUMN group_member_states.left_at IS 'Time of the leave, else of the destroy, the next create or the list that ended the membership; NULL for a member of now.';
COMMENT ON COLUMN group_member_states.exit_type IS 'Quit or Kicked; NULL where no leave ended the membership.';
COMMENT ON COLUMN group_member_states.left_by IS 'Operator of the leave; NULL where no leave ended the membership.';

COMMENT ON COLUMN group_member_states.mute_until IS 'Until when the member is muted, in 2106 without end; NULL: not muted, or not known.';
COMMENT ON COLUMN group_member_states.custom_fields IS 'Custom fields of the member, a JSON object; NULL: none, or not known.';

COMMENT ON VIEW active_groups IS 'Groups that exist now, with their owner of now.';
COMMENT ON COLUMN active_groups.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_groups.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_groups.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come. NULL where nothing named it.';
COMMENT ON COLUMN active_groups.name IS 'Name; NULL where nothing of this life named it.';
COMMENT ON COLUMN active_groups.owner IS 'The owner; NULL where there is none, or none is known.';
COMMENT ON COLUMN active_groups.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN active_groups.introduction IS 'Introduction; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_groups.notification IS 'Notice; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_groups.face_url IS 'URL of the avatar; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_groups.created_at IS 'Event time of the create, else the CreateTime that a read gives; NULL where neither is known.';
COMMENT ON COLUMN active_groups.updated_at IS 'Event time of the newest fact about the group, its members included.';

COMMENT ON VIEW active_group_members IS 'Who is in which group now, with the role of now.';
COMMENT ON COLUMN active_group_members.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_members.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_members.user_id IS 'The user, as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_members.role IS 'Owner, Admin or Member.';
COMMENT ON COLUMN active_group_members.name_card IS 'Name card; empty where it was cleared, NULL where none is known.';
COMMENT ON COLUMN active_group_members.joined_at IS 'Time of the join; NULL where it is not known.';
COMMENT ON COLUMN active_group_members.join_type IS 'Apply or Invited; NULL for a member from the start, and where the join is not known.';
COMMENT ON COLUMN active_group_members.joined_by IS 'Operator of the join; NULL where it is not known.';

COMMENT ON VIEW active_group_user_defined_fields IS 'User-defined fields that groups have now.';
COMMENT ON COLUMN active_group_user_defined_fields.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_user_defined_fields.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_user_defined_fields.key IS 'Key as created in the console.';
COMMENT ON COLUMN active_group_user_defined_fields.value IS 'Value; U+0000 is stored as U+FFFD.';

COMMENT ON VIEW active_group_attributes IS 'Attributes that groups have now.';
COMMENT ON COLUMN active_group_attributes.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_attributes.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_attributes.key IS 'Key.';
COMMENT ON COLUMN active_group_attributes.value IS 'Value; U+0000 is stored as U+FFFD.';

COMMENT ON VIEW group_topic_states IS 'Every topic, present or past, with what follows from its stamps.';
COMMENT ON COLUMN group_topic_states.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_topic_states.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_topic_states.topic_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_topic_states.active IS 'True for a topic that exists now.';
COMMENT ON COLUMN group_topic_states.name IS 'Name; NULL where nothing of this life named it.';
COMMENT ON COLUMN group_topic_states.introduction IS 'Introduction; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_topic_states.notification IS 'Notice; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_topic_states.face_url IS 'URL of the avatar; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN group_topic_states.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN group_topic_states.created_at IS 'Time of the create; NULL where no callback of it came.';
COMMENT ON COLUMN group_topic_states.destroyed_at IS 'Time of the destroy, else of the end of the group or its next create; NULL for a topic that exists now.';

COMMENT ON VIEW active_group_topics IS 'Topics that communities have now.';
COMMENT ON COLUMN active_group_topics.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_topics.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_topics.topic_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_topics.name IS 'Name; NULL where nothing of this life named it.';
COMMENT ON COLUMN active_group_topics.introduction IS 'Introduction; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_group_topics.notification IS 'Notice; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_group_topics.face_url IS 'URL of the avatar; empty where it was cleared, NULL where nothing of this life named one.';
COMMENT ON COLUMN active_group_topics.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN active_group_topics.created_at IS 'Time of the create; NULL where no callback of it came.';
