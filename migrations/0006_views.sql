-- What is true, for people and for the read API. `…_states` show every row with what follows from stamps and barriers;
-- `active_…` show what is true now, without tombstones. The same rules stand once in Rust (mirror/state.rs), and a
-- test compares both.

CREATE VIEW group_states AS
SELECT s.sdk_app_id, s.group_id, s.status,
       CASE WHEN s.type_stamp >= s.profile_barrier THEN s.type END AS type,
       CASE WHEN s.name_stamp >= s.profile_barrier THEN s.name END AS name,
       CASE WHEN s.owner_stamp >= s.profile_barrier
             -- A Work group lives on without the owner who left it, and no callback says so.
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
       -- What is older does not count: for the profile, for fields, attributes, members and topics.
       GREATEST(s.profile_barrier, s.fields_barrier) AS fields_from,
       GREATEST(s.profile_barrier, s.attributes_barrier) AS attributes_from,
       GREATEST(s.create_barrier, s.destroyed_stamp, s.members_barrier) AS members_from,
       GREATEST(s.create_barrier, s.destroyed_stamp, s.topics_barrier) AS topics_from,
       s.create_barrier, s.destroyed_stamp, s.members_barrier, s.topics_barrier,
       -- For indexes and statistics, which know columns and not what follows from them.
       s.type AS newest_type, s.name AS newest_name, s.owner AS newest_owner
  FROM (SELECT g.*,
               -- A destroyed group still shows the newest profile it had.
               CASE WHEN g.status = 'destroyed' THEN g.create_barrier
                    ELSE GREATEST(g.create_barrier, g.destroyed_stamp) END AS profile_barrier
          FROM groups g) s;
COMMENT ON VIEW group_states IS 'Every group with what follows from its stamps; the …_from columns are barriers, the newest_… ones claims that may not count.';

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
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     CASE WHEN s.leave_stamp > s.arrived THEN s.leave_stamp
                          -- The first barrier after the arrival; those of a later life must not move it.
                          ELSE COALESCE(LEAST(CASE WHEN s.create_barrier > s.arrived THEN s.create_barrier END,
                                              CASE WHEN s.destroyed_stamp > s.arrived THEN s.destroyed_stamp END,
                                              CASE WHEN s.members_barrier > s.arrived THEN s.members_barrier END),
                                        s.members_from) END, '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS left_at,
       CASE WHEN NOT s.present AND s.leave_stamp > s.arrived THEN s.exit_type END AS exit_type,
       CASE WHEN NOT s.present AND s.leave_stamp > s.arrived THEN s.left_by END AS left_by
  FROM (SELECT p.*,
               -- A stay whose join belongs to an earlier one has a beginning that is not known.
               (p.leave_stamp > p.arrived OR p.join_stamp > p.leave_stamp)
               AND (NOT p.present OR p.join_stamp >= p.members_from) AS join_shown
          FROM (SELECT m.*, g.members_from, g.create_barrier, g.destroyed_stamp, g.members_barrier, g.owner AS group_owner,
                       GREATEST(m.join_stamp, m.confirmed_stamp) AS arrived,
                       g.status <> 'destroyed'
                       AND GREATEST(m.join_stamp, m.confirmed_stamp) > m.leave_stamp
                       AND GREATEST(m.join_stamp, m.confirmed_stamp) >= g.members_from AS present
                  FROM group_members m
                  JOIN group_states g ON g.sdk_app_id = m.sdk_app_id AND g.group_id = m.group_id) p) s
 WHERE s.arrived > '' OR s.leave_stamp > '';
COMMENT ON VIEW group_member_states IS 'Every membership, present or past, with what follows from its stamps.';

CREATE VIEW active_groups AS
SELECT sdk_app_id, group_id, type, name, owner, created_by, introduction, notification, face_url, created_at, updated_at
  FROM group_states WHERE status = 'active';
COMMENT ON VIEW active_groups IS 'Groups that exist now, with their owner of now.';

CREATE VIEW active_group_members AS
SELECT sdk_app_id, group_id, user_id, role, name_card, joined_at, join_type, joined_by
  FROM group_member_states WHERE present;
COMMENT ON VIEW active_group_members IS 'Who is in which group now, with the role of now.';

CREATE VIEW active_group_user_defined_fields AS
SELECT f.sdk_app_id, f.group_id, f.key, f.value
  FROM group_user_defined_fields f
  JOIN group_states g ON g.sdk_app_id = f.sdk_app_id AND g.group_id = f.group_id
 WHERE g.status <> 'destroyed' AND f.value_stamp >= g.fields_from AND f.value IS NOT NULL;
COMMENT ON VIEW active_group_user_defined_fields IS 'User-defined fields that groups have now.';

CREATE VIEW active_group_attributes AS
SELECT a.sdk_app_id, a.group_id, a.key, a.value
  FROM group_attributes a
  JOIN group_states g ON g.sdk_app_id = a.sdk_app_id AND g.group_id = a.group_id
 WHERE g.status <> 'destroyed' AND a.value_stamp >= g.attributes_from AND a.value IS NOT NULL;
COMMENT ON VIEW active_group_attributes IS 'Attributes that groups have now.';

CREATE VIEW group_topic_states AS
SELECT s.sdk_app_id, s.group_id, s.topic_id, s.active, s.name, s.introduction, s.notification, s.face_url, s.created_by,
       s.created_at,
       CASE WHEN s.active THEN NULL
            ELSE to_timestamp(('x' || encode(substring(NULLIF(
                     CASE WHEN s.destroyed_stamp >= s.alive_stamp THEN s.destroyed_stamp
                          -- The first barrier after the sign of life; those of a later life must not move it.
                          ELSE COALESCE(LEAST(CASE WHEN s.create_barrier > s.alive_stamp THEN s.create_barrier END,
                                              CASE WHEN s.group_destroyed > s.alive_stamp THEN s.group_destroyed END,
                                              CASE WHEN s.topics_barrier > s.alive_stamp THEN s.topics_barrier END),
                                        s.topics_from) END, '')
                     FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END AS destroyed_at
  FROM (SELECT t.*, g.topics_from, g.create_barrier, g.destroyed_stamp AS group_destroyed, g.topics_barrier,
               g.status <> 'destroyed' AND t.alive_stamp > t.destroyed_stamp AND t.alive_stamp >= g.topics_from AS active
          FROM group_topics t
          JOIN group_states g ON g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id) s;
COMMENT ON VIEW group_topic_states IS 'Every topic, present or past, with what follows from its stamps.';

CREATE VIEW active_group_topics AS
SELECT sdk_app_id, group_id, topic_id, name, introduction, notification, face_url, created_by, created_at
  FROM group_topic_states WHERE active;
COMMENT ON VIEW active_group_topics IS 'Topics that communities have now.';
