-- One row per group that was ever heard of. Pairs `x`, `x_stamp` are registers: the value with the greater stamp wins,
-- field by field, because bodies name only what changed. Barriers are stamps that only grow; what is strictly older
-- than a barrier does not count any more, so that the end of a group with 100,000 members changes one row.
--
-- The plain columns hold the newest claims. What is true now (an earlier life of a reused id, the owner who left) is
-- in the views of 0006.

CREATE TABLE groups (
    sdk_app_id          bigint NOT NULL,
    group_id            text   COLLATE "C" NOT NULL,
    type                text,
    type_stamp          bytea  NOT NULL DEFAULT '',
    name                text,
    name_stamp          bytea  NOT NULL DEFAULT '',
    introduction        text,
    introduction_stamp  bytea  NOT NULL DEFAULT '',
    notification        text,
    notification_stamp  bytea  NOT NULL DEFAULT '',
    face_url            text,
    face_url_stamp      bytea  NOT NULL DEFAULT '',
    owner               text   COLLATE "C",
    owner_stamp         bytea  NOT NULL DEFAULT '',
    created_by          text   COLLATE "C",
    created_stamp       bytea  NOT NULL DEFAULT '',
    create_barrier      bytea  NOT NULL DEFAULT '',
    destroyed_stamp     bytea  NOT NULL DEFAULT '',
    alive_stamp         bytea  NOT NULL DEFAULT '',
    updated_stamp       bytea  NOT NULL DEFAULT '',
    members_barrier     bytea  NOT NULL DEFAULT '',
    fields_barrier      bytea  NOT NULL DEFAULT '',
    attributes_barrier  bytea  NOT NULL DEFAULT '',
    attributes_unclear  bytea  NOT NULL DEFAULT '',
    topics_barrier      bytea  NOT NULL DEFAULT '',
    topics_unclear      bytea  NOT NULL DEFAULT '',
    -- Kept as columns, not only in a view, because lists are filtered and sorted by them. A time is read out of its
    -- stamp (the first 8 bytes), so that it can never differ from the stamp that won.
    status text GENERATED ALWAYS AS (CASE
        WHEN destroyed_stamp > '' AND destroyed_stamp >= alive_stamp THEN 'destroyed'
        WHEN GREATEST(created_stamp, name_stamp, introduction_stamp, notification_stamp, face_url_stamp) > ''
         AND GREATEST(created_stamp, name_stamp, introduction_stamp, notification_stamp, face_url_stamp)
             >= GREATEST(create_barrier, destroyed_stamp) THEN 'active'
        ELSE 'unseen' END) STORED,
    created_at timestamptz GENERATED ALWAYS AS (CASE
        WHEN created_stamp >= destroyed_stamp OR destroyed_stamp >= alive_stamp
        THEN to_timestamp(('x' || encode(substring(NULLIF(created_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    updated_at timestamptz GENERATED ALWAYS AS (
        to_timestamp(('x' || encode(substring(NULLIF(updated_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)) STORED,
    destroyed_at timestamptz GENERATED ALWAYS AS (CASE
        WHEN destroyed_stamp >= alive_stamp
        THEN to_timestamp(('x' || encode(substring(NULLIF(destroyed_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    CONSTRAINT groups_pkey PRIMARY KEY (sdk_app_id, group_id)
) WITH (fillfactor = 80); -- every callback of a group touches its row; spare room keeps the indexes untouched

-- Serves every order by time: forwards newest first, backwards oldest first (few groups share a millisecond, so putting
-- those in the order of their ids costs nothing). The key serves the order by id.
CREATE INDEX groups_newest_idx ON groups (sdk_app_id, created_at DESC NULLS LAST, group_id);
-- Serves the filter `status`, and groups without a time; nearly all others are active, and for those the index above
-- will do.
CREATE INDEX groups_status_idx ON groups (sdk_app_id, status, created_at DESC NULLS LAST, group_id)
    WHERE status IN ('destroyed', 'unseen') OR created_at IS NULL;
-- Serves the filter `type` where the type is rare; where it is common the order finds enough of it.
CREATE INDEX groups_type_idx ON groups (sdk_app_id, type);
-- Serves the filter `owner`.
CREATE INDEX groups_owner_idx ON groups (sdk_app_id, owner, group_id);
-- Serves the filter `name`, where the database has pg_trgm; elsewhere the order is read until enough names fit.
DO $$
DECLARE home text := (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_trgm');
BEGIN
    IF home IS NOT NULL THEN
        EXECUTE format('CREATE INDEX groups_name_idx ON groups USING gin (name %s.gin_trgm_ops)', home);
    END IF;
END $$;

COMMENT ON TABLE groups IS 'Every group ever heard of, as registers and barriers; active_groups shows what is true now.';
COMMENT ON COLUMN groups.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN groups.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN groups.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come.';
COMMENT ON COLUMN groups.type_stamp IS 'Stamp of type.';
COMMENT ON COLUMN groups.name IS 'Name.';
COMMENT ON COLUMN groups.name_stamp IS 'Stamp of name.';
COMMENT ON COLUMN groups.introduction IS 'Introduction; empty where it was cleared, NULL where never told.';
COMMENT ON COLUMN groups.introduction_stamp IS 'Stamp of introduction.';
COMMENT ON COLUMN groups.notification IS 'Notice; empty where it was cleared, NULL where never told.';
COMMENT ON COLUMN groups.notification_stamp IS 'Stamp of notification.';
COMMENT ON COLUMN groups.face_url IS 'URL of the avatar; empty where it was cleared, NULL where never told.';
COMMENT ON COLUMN groups.face_url_stamp IS 'Stamp of face_url.';
COMMENT ON COLUMN groups.owner IS 'Newest owner that a body named; the owner now is in active_groups.';
COMMENT ON COLUMN groups.owner_stamp IS 'Stamp of owner.';
COMMENT ON COLUMN groups.created_by IS 'Operator of the newest create; often an administrator who is no member.';
COMMENT ON COLUMN groups.created_stamp IS 'Stamp of the newest create.';
COMMENT ON COLUMN groups.create_barrier IS 'Newest create minus 10 s: ends an earlier life whose destroy was lost.';
COMMENT ON COLUMN groups.destroyed_stamp IS 'Stamp of the newest destroy; also a barrier.';
COMMENT ON COLUMN groups.alive_stamp IS 'Newest create, join, change of owner or profile, or positive REST read.';
COMMENT ON COLUMN groups.updated_stamp IS 'Newest fact of any kind about the group, its members included.';
COMMENT ON COLUMN groups.members_barrier IS 'Newest complete list of members from REST.';
COMMENT ON COLUMN groups.fields_barrier IS 'Newest complete list of user-defined fields from REST.';
COMMENT ON COLUMN groups.attributes_barrier IS 'Newest reset, clearing or complete list of attributes.';
COMMENT ON COLUMN groups.attributes_unclear IS 'Newest change of attributes whose body does not tell what changed; newer than the barrier: needs a REST read.';
COMMENT ON COLUMN groups.topics_barrier IS 'Newest complete list of topics from REST.';
COMMENT ON COLUMN groups.topics_unclear IS 'Newest change of a topic whose body does not name it; newer than the barrier: needs a REST read.';
COMMENT ON COLUMN groups.status IS 'active; unseen until a create or a profile is known; destroyed.';
COMMENT ON COLUMN groups.created_at IS 'Event time of the create of this life; NULL where it was not seen.';
COMMENT ON COLUMN groups.updated_at IS 'Event time of the newest fact about the group, never the clock of the database.';
COMMENT ON COLUMN groups.destroyed_at IS 'Event time of the destroy while it is the newest news; else NULL.';
