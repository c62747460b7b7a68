-- One row per user and group that were ever named together. A member is present when the newest join, confirmation or REST
-- read is newer than the newest leave and not older than the barriers of the group; a confirmation (a change of role, name
-- card or owner) stamped less than 10 s after the leave does not undo it. See group_member_states.
--
-- No foreign key to groups: every fact about a member creates the row of its group in the same transaction, replay
-- proves the whole, and the check would cost a lookup per row in the hottest statement.

CREATE TABLE group_members (
    sdk_app_id      bigint NOT NULL,
    group_id        text   COLLATE "C" NOT NULL,
    user_id         text   COLLATE "C" NOT NULL,
    join_stamp      bytea  NOT NULL DEFAULT '',
    join_type       text,
    joined_by       text   COLLATE "C",
    leave_stamp     bytea  NOT NULL DEFAULT '',
    exit_type       text,
    left_by         text   COLLATE "C",
    revival_barrier  bytea  NOT NULL DEFAULT '',
    confirmed_stamp bytea  NOT NULL DEFAULT '',
    read_stamp      bytea  NOT NULL DEFAULT '',
    role            text   NOT NULL DEFAULT 'Member',
    role_stamp      bytea  NOT NULL DEFAULT '',
    name_card       text,
    name_card_stamp bytea  NOT NULL DEFAULT '',
    -- A join or a REST read that is newer than the leave undoes it; another callback only from the barrier on. Without a
    -- leave both are empty, and nothing is less than empty.
    joined_at timestamptz GENERATED ALWAYS AS (
        to_timestamp(('x' || encode(substring(NULLIF(join_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)) STORED,
    left_at   timestamptz GENERATED ALWAYS AS (CASE
        WHEN leave_stamp >= GREATEST(join_stamp, read_stamp) AND confirmed_stamp < revival_barrier
        THEN to_timestamp(('x' || encode(substring(NULLIF(leave_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    -- For the indexes below.
    has_left  boolean GENERATED ALWAYS AS (
        leave_stamp >= GREATEST(join_stamp, read_stamp) AND confirmed_stamp < revival_barrier) STORED,
    CONSTRAINT group_members_pkey PRIMARY KEY (sdk_app_id, group_id, user_id),
    CONSTRAINT group_members_role_check CHECK (role IN ('Admin', 'Member'))
);

-- Serve GET /v1/users/{user_id}/groups and the filter `member`: what the user has left costs a list of the present ones
-- nothing. Each row is in one of them. Not one index with has_left in the middle: before there are statistics a lookup of
-- one membership took it for as good as the key, and read all memberships of the user.
CREATE INDEX group_members_user_idx ON group_members (sdk_app_id, user_id, group_id) WHERE NOT has_left;
CREATE INDEX group_members_left_idx ON group_members (sdk_app_id, user_id, group_id) WHERE has_left;

COMMENT ON TABLE group_members IS 'Every membership that a callback ever named, as registers and barriers; active_group_members shows what is true now.';
COMMENT ON COLUMN group_members.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_members.group_id IS 'The group.';
COMMENT ON COLUMN group_members.user_id IS 'The user, as Tencent writes it; case counts.';
COMMENT ON COLUMN group_members.join_stamp IS 'Stamp of the newest join.';
COMMENT ON COLUMN group_members.join_type IS 'Apply or Invited; NULL for a member from the start.';
COMMENT ON COLUMN group_members.joined_by IS 'Operator of the newest join.';
COMMENT ON COLUMN group_members.leave_stamp IS 'Stamp of the newest leave.';
COMMENT ON COLUMN group_members.exit_type IS 'Quit or Kicked.';
COMMENT ON COLUMN group_members.left_by IS 'Operator of the newest leave.';
COMMENT ON COLUMN group_members.revival_barrier IS 'Newest leave plus 10 s: an older confirmed_stamp does not undo the leave, because clocks of Tencent''s servers differ.';
COMMENT ON COLUMN group_members.confirmed_stamp IS 'Newest callback but a join that shows the membership: change of role, name card or owner.';
COMMENT ON COLUMN group_members.read_stamp IS 'Newest REST read that shows the membership. Unused until reconciliation raises it: no callback does.';
COMMENT ON COLUMN group_members.role IS 'Newest role that a body named, Admin or Member; Owner follows from groups.owner, see active_group_members.';
COMMENT ON COLUMN group_members.role_stamp IS 'Stamp of role.';
COMMENT ON COLUMN group_members.name_card IS 'Newest name card; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN group_members.name_card_stamp IS 'Stamp of name_card.';
COMMENT ON COLUMN group_members.joined_at IS 'Event time of the newest join.';
COMMENT ON COLUMN group_members.left_at IS 'Event time of the newest leave, if nothing newer shows the membership; the end of the group is not written here.';
COMMENT ON COLUMN group_members.has_left IS 'True where left_at is not NULL; the end of the group is not written here.';
