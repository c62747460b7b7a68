-- One row per group that a callback ever named. Pairs `x`, `x_stamp` are last-writer-wins registers: the value with the
-- greater stamp wins, field by field, because bodies name only what changed. Barriers are stamps that only grow; what is
-- strictly older than a barrier does not count any more, so that destroying a group with 100,000 members changes one row.
--
-- The plain columns hold the newest facts. What is true now (an id used again, an owner who left) is in the views of 0006.

CREATE TABLE groups (
    sdk_app_id          bigint NOT NULL,
    group_id            text   COLLATE "C" NOT NULL,
    type                text,
    type_stamp          bytea  NOT NULL DEFAULT '',
    name                text,
    name_caseless       text   COLLATE "C",
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
    revival_barrier     bytea  NOT NULL DEFAULT '',
    alive_stamp         bytea  NOT NULL DEFAULT '',
    read_stamp          bytea  NOT NULL DEFAULT '',
    gone_stamp          bytea  NOT NULL DEFAULT '',
    updated_stamp       bytea  NOT NULL DEFAULT '',
    members_barrier     bytea  NOT NULL DEFAULT '',
    ranges_stamp        bytea  NOT NULL DEFAULT '',
    fields_barrier      bytea  NOT NULL DEFAULT '',
    attributes_barrier  bytea  NOT NULL DEFAULT '',
    attributes_unclear  bytea  NOT NULL DEFAULT '',
    topics_barrier      bytea  NOT NULL DEFAULT '',
    topics_unclear      bytea  NOT NULL DEFAULT '',
    apply_join_option   text,
    invite_join_option  text,
    mute_all            boolean,
    max_member_count    bigint,
    create_secs         bigint,
    silent_stamp        bytea  NOT NULL DEFAULT '',
    earlier_ends        bytea  NOT NULL DEFAULT '',
    -- Kept as columns, not only in a view, because lists are filtered and sorted by them. A time is read out of its
    -- stamp (the first 8 bytes), so that it can never differ from the stamp that won. The expression is repeated and no
    -- function: `replay` makes missing tables in a schema at the side and moves them, and a function would stay there.
    status text GENERATED ALWAYS AS (CASE
        -- A create or a read that is newer than the destroy undoes it; another callback only from the barrier on. Without a
        -- destroy both barriers are empty, and nothing is less than empty. What a read found gone, anything newer undoes.
        WHEN (destroyed_stamp >= GREATEST(created_stamp, read_stamp) AND alive_stamp < revival_barrier
              OR gone_stamp > '' AND gone_stamp >= GREATEST(created_stamp, read_stamp, alive_stamp))
        THEN 'destroyed'
        WHEN GREATEST(created_stamp, name_stamp, introduction_stamp, notification_stamp, face_url_stamp) > ''
         AND GREATEST(created_stamp, name_stamp, introduction_stamp, notification_stamp, face_url_stamp)
             >= GREATEST(create_barrier, destroyed_stamp, gone_stamp) THEN 'active'
        ELSE 'unseen' END) STORED,
    created_at timestamptz GENERATED ALWAYS AS (COALESCE(
        CASE WHEN created_stamp >= create_barrier
              AND (created_stamp >= GREATEST(destroyed_stamp, gone_stamp)
              OR (destroyed_stamp >= GREATEST(created_stamp, read_stamp) AND alive_stamp < revival_barrier
              OR gone_stamp > '' AND gone_stamp >= GREATEST(created_stamp, read_stamp, alive_stamp)))
        THEN to_timestamp(('x' || encode(substring(NULLIF(created_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END,
        -- Where no callback of this life said it, a read of the profile may.
        CASE WHEN silent_stamp >= create_barrier
              AND (silent_stamp >= GREATEST(destroyed_stamp, gone_stamp)
              OR (destroyed_stamp >= GREATEST(created_stamp, read_stamp) AND alive_stamp < revival_barrier
              OR gone_stamp > '' AND gone_stamp >= GREATEST(created_stamp, read_stamp, alive_stamp)))
        THEN to_timestamp(create_secs) END)) STORED,
    updated_at timestamptz GENERATED ALWAYS AS (
        to_timestamp(('x' || encode(substring(NULLIF(updated_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)) STORED,
    -- The time of updated_stamp in steps of 2^26 ms (19 hours), for an index: one of the time itself would move with every
    -- callback, and an update that changes what an index has writes to all indexes (no heap-only tuple).
    updated_step integer GENERATED ALWAYS AS (
        ((('x' || encode(substring(NULLIF(updated_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint) >> 26)::integer) STORED,
    destroyed_at timestamptz GENERATED ALWAYS AS (CASE
        WHEN (destroyed_stamp >= GREATEST(created_stamp, read_stamp) AND alive_stamp < revival_barrier
              OR gone_stamp > '' AND gone_stamp >= GREATEST(created_stamp, read_stamp, alive_stamp))
        THEN to_timestamp(('x' || encode(substring(NULLIF(GREATEST(destroyed_stamp, gone_stamp), '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    CONSTRAINT groups_pkey PRIMARY KEY (sdk_app_id, group_id)
) WITH (fillfactor = 80); -- every callback of a group touches its row; spare room keeps the indexes untouched

-- Each status has a stretch of its own in both, so that a million destroyed groups cost a page of the active ones nothing;
-- a list of every status is read from its three stretches. The first serves the orders by time: forwards newest first,
-- backwards oldest first (few groups share a millisecond, so putting those in the order of their ids costs nothing). The
-- second serves the order by id.
CREATE INDEX groups_time_idx ON groups (sdk_app_id, status, created_at DESC NULLS LAST, group_id);
CREATE INDEX groups_id_idx ON groups (sdk_app_id, status, group_id);
-- Serves the filter `type` where the type is rare; where it is common the order finds enough of it.
CREATE INDEX groups_type_idx ON groups (sdk_app_id, type);
-- Serves the filter `owner`, by times without a sort: a service account may own every group there is.
CREATE INDEX groups_owner_idx ON groups (sdk_app_id, owner, status, created_at DESC NULLS LAST, group_id);
-- Serves the filter `prefix`. It holds the begin of a name only: an index entry cannot be longer than 2.7 kB.
CREATE INDEX groups_prefix_idx ON groups (sdk_app_id, left(name_caseless, 64));
-- Serves the filter `updated_after` where few groups have moved since; where many have, the order finds enough of them.
CREATE INDEX groups_updated_idx ON groups (sdk_app_id, updated_step);
-- Serves the filter `name`, where the database has pg_trgm; elsewhere groups are read in order until enough names match.
-- By the caseless form, which the service makes: what the database makes of a letter depends on its locale.
DO $$
DECLARE home text := (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_trgm');
BEGIN
    IF home IS NOT NULL THEN
        EXECUTE format('CREATE INDEX groups_name_idx ON groups USING gin (name_caseless %s.gin_trgm_ops)', home);
    END IF;
END $$;

COMMENT ON TABLE groups IS 'Every group that a callback ever named, as registers and barriers; active_groups shows what is true now.';
COMMENT ON COLUMN groups.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN groups.group_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN groups.type IS 'Work, Public, Meeting, AVChatRoom, Community; unknown ones as they come.';
COMMENT ON COLUMN groups.type_stamp IS 'Stamp of type.';
COMMENT ON COLUMN groups.name IS 'Newest name.';
COMMENT ON COLUMN groups.name_caseless IS 'The name as it is searched for: without regard to case, in whatever locale; written by the service.';
COMMENT ON COLUMN groups.name_stamp IS 'Stamp of name.';
COMMENT ON COLUMN groups.introduction IS 'Newest introduction; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN groups.introduction_stamp IS 'Stamp of introduction.';
COMMENT ON COLUMN groups.notification IS 'Newest notice; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN groups.notification_stamp IS 'Stamp of notification.';
COMMENT ON COLUMN groups.face_url IS 'Newest URL of the avatar; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN groups.face_url_stamp IS 'Stamp of face_url.';
COMMENT ON COLUMN groups.owner IS 'Newest owner that a body named; the owner now is in active_groups.';
COMMENT ON COLUMN groups.owner_stamp IS 'Stamp of owner.';
COMMENT ON COLUMN groups.created_by IS 'Operator of the newest create; often an administrator who is no member.';
COMMENT ON COLUMN groups.created_stamp IS 'Stamp of the newest create.';
COMMENT ON COLUMN groups.create_barrier IS 'Newest create, or CreateTime of a read, minus 10 s: ends an earlier life of the id whose destroy was lost, and spares joins that came before a late create.';
COMMENT ON COLUMN groups.destroyed_stamp IS 'Stamp of the newest destroy; also a barrier.';
COMMENT ON COLUMN groups.revival_barrier IS 'Newest destroy plus 10 s: an older alive_stamp does not undo the destroy, because clocks of Tencent''s servers differ.';
COMMENT ON COLUMN groups.alive_stamp IS 'Newest join, change of owner or change of profile: the callbacks but a create that show that the group exists.';
COMMENT ON COLUMN groups.read_stamp IS 'Newest positive read of the profile. No callback raises it.';
COMMENT ON COLUMN groups.gone_stamp IS 'Newest read in which Tencent said, twice, that there is no such group; also a barrier. No callback raises it.';
COMMENT ON COLUMN groups.updated_stamp IS 'Newest fact of any kind about the group, its members included.';
COMMENT ON COLUMN groups.members_barrier IS 'Newest complete list of all members: memberships that are older have ended. No callback raises it.';
COMMENT ON COLUMN groups.fields_barrier IS 'Newest read of all user-defined fields: older ones do not count. No callback raises it.';
COMMENT ON COLUMN groups.attributes_barrier IS 'Newest callback that replaced or cleared all attributes, or read of all of them.';
COMMENT ON COLUMN groups.attributes_unclear IS 'Newest change of attributes whose body does not say what changed; newer than the barrier: needs a REST read.';
COMMENT ON COLUMN groups.topics_barrier IS 'Newest complete list of topics: topics that are older have ended. No callback raises it.';
COMMENT ON COLUMN groups.topics_unclear IS 'Newest change of a topic whose body does not name it; newer than the barrier: needs a REST read.';
COMMENT ON COLUMN groups.ranges_stamp IS 'Newest of the ranges of this group in group_list_ranges; they need a look only while it is newer than members_barrier.';
COMMENT ON COLUMN groups.apply_join_option IS 'Who may join how, by the newest read of the profile; NULL where Tencent does not say.';
COMMENT ON COLUMN groups.invite_join_option IS 'Who may invite, by the newest read of the profile; NULL where Tencent does not say.';
COMMENT ON COLUMN groups.mute_all IS 'True while all members are muted, by the newest read of the profile.';
COMMENT ON COLUMN groups.max_member_count IS 'How many members the group may have, by the newest read of the profile.';
COMMENT ON COLUMN groups.create_secs IS 'CreateTime of the newest read of the profile, Unix seconds.';
COMMENT ON COLUMN groups.silent_stamp IS 'Stamp of the five columns that only reads of the profile give.';
COMMENT ON COLUMN groups.earlier_ends IS 'Stamps of older creates and destroys, 17 bytes each, the greatest first, at most 32: the ends of earlier lives of the id. Empty unless the id was used again.';
COMMENT ON COLUMN groups.status IS 'active; unseen until a create or a profile is known; destroyed.';
COMMENT ON COLUMN groups.created_at IS 'Event time of the create of this life, else the CreateTime that a read gives; NULL where neither is known.';
COMMENT ON COLUMN groups.updated_at IS 'Event time of the newest fact about the group, never the clock of the database.';
COMMENT ON COLUMN groups.updated_step IS 'Unix milliseconds of updated_at divided by 2^26, for the index of what has changed since a time.';
COMMENT ON COLUMN groups.destroyed_at IS 'Time of the newest destroy, or of the read that found the group gone, while it is destroyed; else NULL.';
