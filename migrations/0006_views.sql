-- What is true, for people and for the read API. `…_states` show every row with what follows from stamps and barriers;
-- `active_…` show what is true now, without what is gone. The same rules stand in Rust (mirror/state.rs, mirror/life.rs),
-- and tests compare both.

CREATE VIEW group_states AS
SELECT s.sdk_app_id, s.group_id, s.status,
       CASE WHEN s.type_stamp >= s.profile_barrier THEN s.type END AS type,
       CASE WHEN s.name_stamp >= s.profile_barrier THEN s.name END AS name,
       CASE WHEN s.owner_stamp >= s.profile_barrier
             -- A Work group goes on existing without the owner who left it, and no callback says so.
             AND NOT (s.type IS NOT DISTINCT FROM 'Work' AND s.type_stamp >= s.profile_barrier
                      AND EXISTS (SELECT FROM group_members o
                                   WHERE o.sdk_app_id = s.sdk_app_id AND o.group_id = s.group_id
                                     AND o.user_id = s.owner AND o.leave_stamp > s.owner_stamp))
            THEN s.owner END AS owner,
       CASE WHEN s.created_stamp >= s.profile_barrier THEN s.created_by END AS created_by,
       CASE WHEN s.introduction_stamp >= s.profile_barrier THEN s.introduction END AS introduction,
       CASE WHEN s.notification_stamp >= s.profile_barrier THEN s.notification END AS notification,
       CASE WHEN s.face_url_stamp >= s.profile_barrier THEN s.face_url END AS face_url,
       s.created_at, s.updated_at, s.destroyed_at,
       GREATEST(s.profile_barrier, s.fields_barrier) AS fields_from,
       GREATEST(s.profile_barrier, s.attributes_barrier) AS attributes_from,
       GREATEST(s.create_barrier, s.destroyed_stamp, s.members_barrier) AS members_from,
       GREATEST(s.create_barrier, s.destroyed_stamp, s.topics_barrier) AS topics_from,
       s.created_stamp, s.create_barrier, s.destroyed_stamp, s.members_barrier, s.topics_barrier,
       s.earlier_ends,
       -- For indexes and statistics, which know columns and not what follows from them.
       s.type AS newest_type, s.name_caseless AS newest_name_caseless, s.owner AS newest_owner
  FROM (SELECT g.*,
               -- A destroyed group still shows the newest profile it had.
               CASE WHEN g.status = 'destroyed' THEN g.create_barrier
                    ELSE GREATEST(g.create_barrier, g.destroyed_stamp) END AS profile_barrier
          FROM groups g) s;

CREATE VIEW group_member_states AS
SELECT s.sdk_app_id, s.group_id, s.user_id, s.present,
       CASE WHEN NOT s.present THEN 'Member'
            WHEN s.user_id = s.group_owner THEN 'Owner'
            WHEN s.role_stamp > s.leave_stamp AND s.role_stamp >= s.members_from THEN s.role
            ELSE 'Member' END AS role,
       CASE WHEN s.present AND s.name_card_stamp > s.leave_stamp AND s.name_card_stamp >= s.members_from
            THEN s.name_card END AS name_card,
       CASE WHEN s.join_shown THEN s.joined_at END AS joined_at,
       CASE WHEN s.join_shown THEN s.join_type END AS join_type,
       CASE WHEN s.join_shown THEN s.joined_by END AS joined_by,
       CASE WHEN s.present THEN NULL
            WHEN s.has_left THEN s.left_at
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     -- The first end of the group after the arrival. A create ends what is older than its barrier, at its
                     -- own time; a destroyed group ends also what is stamped after the destroy and did not undo it. Ends of
                     -- earlier lives are looked at only where the id was used again.
                     COALESCE(LEAST(CASE WHEN s.create_barrier > s.arrived THEN s.created_stamp END,
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
                                    CASE WHEN s.members_barrier > s.arrived THEN s.members_barrier END),
                              s.destroyed_stamp), '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS left_at,
       CASE WHEN s.has_left THEN s.exit_type END AS exit_type,
       CASE WHEN s.has_left THEN s.left_by END AS left_by
  FROM (SELECT p.*,
               -- A stay whose join belongs to an earlier one has a beginning that is not known.
               (p.has_left OR p.join_stamp > p.leave_stamp)
               AND (NOT p.present OR p.join_stamp >= p.members_from) AS join_shown
          FROM (SELECT m.*, g.members_from, g.created_stamp, g.create_barrier, g.destroyed_stamp, g.members_barrier, g.earlier_ends,
                       g.owner AS group_owner,
                       GREATEST(m.join_stamp, m.confirmed_stamp, m.read_stamp) AS arrived,
                       g.status <> 'destroyed' AND NOT m.has_left
                       AND GREATEST(m.join_stamp, m.confirmed_stamp, m.read_stamp) >= g.members_from AS present
                  FROM group_members m
                  JOIN group_states g ON g.sdk_app_id = m.sdk_app_id AND g.group_id = m.group_id) p) s
 WHERE s.arrived > '' OR s.leave_stamp > '';

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
            WHEN s.has_ended THEN s.destroyed_at
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     -- The first end of its group after the sign of life, as with members.
                     COALESCE(LEAST(CASE WHEN s.create_barrier > s.newest THEN s.group_created END,
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
                                    CASE WHEN s.topics_barrier > s.newest THEN s.topics_barrier END),
                              s.group_destroyed), '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS destroyed_at
  FROM (SELECT a.*,
               -- What was said of an earlier life is not shown. A topic that is gone still shows the newest profile it had.
               CASE WHEN a.active THEN GREATEST(a.destroyed_stamp, a.topics_from) ELSE a.created_stamp END
               AS profile_barrier
          FROM (SELECT t.*, g.topics_from, g.created_stamp AS group_created, g.create_barrier,
                       g.destroyed_stamp AS group_destroyed, g.topics_barrier, g.earlier_ends,
                       GREATEST(t.created_stamp, t.alive_stamp, t.read_stamp) AS newest,
                       t.destroyed_at IS NOT NULL AS has_ended,
                       g.status <> 'destroyed' AND t.destroyed_at IS NULL
                       AND GREATEST(t.created_stamp, t.alive_stamp, t.read_stamp) >= g.topics_from AS active
                  FROM group_topics t
                  JOIN group_states g ON g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id) a) s;

CREATE VIEW active_group_topics AS
SELECT sdk_app_id, group_id, topic_id, name, introduction, notification, face_url, created_by, created_at
  FROM group_topic_states WHERE active;

COMMENT ON VIEW group_states IS 'Every group with what follows from its stamps; the …_from columns are barriers, the newest_… ones facts that may not count.';
COMMENT ON COLUMN group_states.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_states.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_states.status IS 'active; unseen until a create or a profile is known; destroyed.';
COMMENT ON COLUMN group_states.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come. NULL where no callback named it.';
COMMENT ON COLUMN group_states.name IS 'Name; NULL where no callback of this life named it.';
COMMENT ON COLUMN group_states.owner IS 'The owner; NULL where there is none, or none is known.';
COMMENT ON COLUMN group_states.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN group_states.introduction IS 'Introduction; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_states.notification IS 'Notice; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_states.face_url IS 'URL of the avatar; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_states.created_at IS 'Event time of the create; NULL where no callback of it came.';
COMMENT ON COLUMN group_states.updated_at IS 'Event time of the newest fact about the group, its members included.';
COMMENT ON COLUMN group_states.destroyed_at IS 'Event time of the destroy; NULL unless the group is destroyed.';
COMMENT ON COLUMN group_states.fields_from IS 'Barrier: user-defined fields with an older stamp do not count.';
COMMENT ON COLUMN group_states.attributes_from IS 'Barrier: attributes with an older stamp do not count.';
COMMENT ON COLUMN group_states.members_from IS 'Barrier: memberships with older stamps have ended.';
COMMENT ON COLUMN group_states.topics_from IS 'Barrier: topics with older stamps have ended.';
COMMENT ON COLUMN group_states.created_stamp IS 'Stamp of the newest create, whose time ends what its barrier outdates.';
COMMENT ON COLUMN group_states.create_barrier IS 'Newest create minus 10 s.';
COMMENT ON COLUMN group_states.destroyed_stamp IS 'Newest destroy.';
COMMENT ON COLUMN group_states.members_barrier IS 'Newest complete list of members from REST. Unused until reconciliation raises it.';
COMMENT ON COLUMN group_states.topics_barrier IS 'Newest complete list of topics from REST. Unused until reconciliation raises it.';
COMMENT ON COLUMN group_states.earlier_ends IS 'Older creates and destroys, the greatest first, 17 bytes each: what ended earlier lives of the id.';
COMMENT ON COLUMN group_states.newest_type IS 'Newest type that a body named, be it of an earlier life; for indexes.';
COMMENT ON COLUMN group_states.newest_name_caseless IS 'Caseless form of the newest name that a body named, be it of an earlier life; for searches and indexes.';
COMMENT ON COLUMN group_states.newest_owner IS 'Newest owner that a body named, be it of an earlier life; for indexes.';

COMMENT ON VIEW group_member_states IS 'Every membership, present or past, with what follows from its stamps.';
COMMENT ON COLUMN group_member_states.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_member_states.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_member_states.user_id IS 'The user, as Tencent writes it; case counts.';
COMMENT ON COLUMN group_member_states.present IS 'True for a member of now.';
COMMENT ON COLUMN group_member_states.role IS 'Owner, Admin or Member; Member where the membership is past.';
COMMENT ON COLUMN group_member_states.name_card IS 'Name card; empty where it was cleared, NULL where none is known or the membership is past.';
COMMENT ON COLUMN group_member_states.joined_at IS 'Event time of the join of this stay; NULL where no callback of it came.';
COMMENT ON COLUMN group_member_states.join_type IS 'Apply or Invited; NULL for a member from the start, and where the join is not known.';
COMMENT ON COLUMN group_member_states.joined_by IS 'Operator of the join; NULL where it is not known.';
COMMENT ON COLUMN group_member_states.left_at IS 'Time of the leave, else of the destroy or the next create that ended the membership; NULL for a member of now.';
COMMENT ON COLUMN group_member_states.exit_type IS 'Quit or Kicked; NULL where no leave ended the membership.';
COMMENT ON COLUMN group_member_states.left_by IS 'Operator of the leave; NULL where no leave ended the membership.';

COMMENT ON VIEW active_groups IS 'Groups that exist now, with their owner of now.';
COMMENT ON COLUMN active_groups.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_groups.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_groups.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come. NULL where no callback named it.';
COMMENT ON COLUMN active_groups.name IS 'Name; NULL where no callback of this life named it.';
COMMENT ON COLUMN active_groups.owner IS 'The owner; NULL where there is none, or none is known.';
COMMENT ON COLUMN active_groups.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN active_groups.introduction IS 'Introduction; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_groups.notification IS 'Notice; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_groups.face_url IS 'URL of the avatar; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_groups.created_at IS 'Event time of the create; NULL where no callback of it came.';
COMMENT ON COLUMN active_groups.updated_at IS 'Event time of the newest fact about the group, its members included.';

COMMENT ON VIEW active_group_members IS 'Who is in which group now, with the role of now.';
COMMENT ON COLUMN active_group_members.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_members.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_members.user_id IS 'The user, as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_members.role IS 'Owner, Admin or Member.';
COMMENT ON COLUMN active_group_members.name_card IS 'Name card; empty where it was cleared, NULL where none is known.';
COMMENT ON COLUMN active_group_members.joined_at IS 'Event time of the join; NULL where no callback of it came.';
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
COMMENT ON COLUMN group_topic_states.name IS 'Name; NULL where no callback of this life named it.';
COMMENT ON COLUMN group_topic_states.introduction IS 'Introduction; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_topic_states.notification IS 'Notice; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_topic_states.face_url IS 'URL of the avatar; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN group_topic_states.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN group_topic_states.created_at IS 'Time of the create; NULL where no callback of it came.';
COMMENT ON COLUMN group_topic_states.destroyed_at IS 'Time of the destroy, else of the end of the group or its next create; NULL for a topic that exists now.';

COMMENT ON VIEW active_group_topics IS 'Topics that communities have now.';
COMMENT ON COLUMN active_group_topics.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN active_group_topics.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_topics.topic_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN active_group_topics.name IS 'Name; NULL where no callback of this life named it.';
COMMENT ON COLUMN active_group_topics.introduction IS 'Introduction; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_group_topics.notification IS 'Notice; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_group_topics.face_url IS 'URL of the avatar; empty where it was cleared, NULL where no callback of this life named one.';
COMMENT ON COLUMN active_group_topics.created_by IS 'Operator of the create; NULL where it is not known.';
COMMENT ON COLUMN active_group_topics.created_at IS 'Time of the create; NULL where no callback of it came.';
