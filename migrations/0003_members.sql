-- One row per user and group that were ever named together. A member is present when the newest join, confirmation or list
-- is newer than the newest leave and not older than the barriers of the group; a confirmation (a change of role, name
-- card or owner) stamped less than 10 s after the leave does not undo it. See group_member_states.
--
-- What the newest complete list of members says is one register of the whole group: its stamp stands once, in the row of
-- the group (of a large one in group_list_ranges), and is_listed says who stands in that list. So a newer list writes the
-- members who differ and no other. What a newer complete list outdates is deleted here, because it cannot count again.
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
    missing_stamp   bytea  NOT NULL DEFAULT '',
    is_listed        boolean NOT NULL DEFAULT false,
    listed_role      text,
    listed_name_card text,
    listed_join_secs bigint,
    mute_until_secs  bigint,
    custom_fields    text,
    read_stamp       bytea  NOT NULL DEFAULT '',
    role            text   NOT NULL DEFAULT 'Member',
    role_stamp      bytea  NOT NULL DEFAULT '',
    name_card       text,
    name_card_stamp bytea  NOT NULL DEFAULT '',
    -- A join that is newer than the leave undoes it; another callback only from the barrier on. Without a leave both are
    -- empty, and nothing is less than empty. A list undoes it too, which only the view can see.
    joined_at timestamptz GENERATED ALWAYS AS (
        to_timestamp(('x' || encode(substring(NULLIF(join_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)) STORED,
    left_at   timestamptz GENERATED ALWAYS AS (CASE
        WHEN leave_stamp >= join_stamp AND confirmed_stamp < revival_barrier
        THEN to_timestamp(('x' || encode(substring(NULLIF(leave_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    -- For the indexes below: true only of those who are surely no members, whatever the list of the group says.
    has_left  boolean GENERATED ALWAYS AS (
        leave_stamp >= GREATEST(join_stamp, read_stamp) AND confirmed_stamp < revival_barrier AND NOT is_listed) STORED,
    CONSTRAINT group_members_pkey PRIMARY KEY (sdk_app_id, group_id, user_id),
    CONSTRAINT group_members_role_check CHECK (role IN ('Admin', 'Member')),
    CONSTRAINT group_members_listed_role_check CHECK (listed_role IN ('Admin', 'Member'))
);

-- Serve GET /v1/users/{user_id}/groups and the filter `member`: what the user has left costs a list of the present ones
-- nothing. Each row is in one of them. Not one index with has_left in the middle: before there are statistics a lookup of
-- one membership took it for as good as the key, and read all memberships of the user.
CREATE INDEX group_members_user_idx ON group_members (sdk_app_id, user_id, group_id) WHERE NOT has_left;
CREATE INDEX group_members_left_idx ON group_members (sdk_app_id, user_id, group_id) WHERE has_left;

COMMENT ON TABLE group_members IS 'Every membership that a callback or a list ever named, as registers and barriers; active_group_members shows what is true now.';
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
COMMENT ON COLUMN group_members.read_stamp IS 'Stamp of the list that the columns from listed_role to custom_fields are from; empty where that is the newest complete one.';
COMMENT ON COLUMN group_members.missing_stamp IS 'Newest complete list that left the user out while the mirror showed a member: when that stay ended, as far as is known.';
COMMENT ON COLUMN group_members.is_listed IS 'True where the newest complete list of members names the user.';
COMMENT ON COLUMN group_members.listed_role IS 'Admin or Member as the list says; Owner follows from groups.owner.';
COMMENT ON COLUMN group_members.listed_name_card IS 'Name card as the list says; empty: none.';
COMMENT ON COLUMN group_members.listed_join_secs IS 'JoinTime as the list says, Unix seconds.';
COMMENT ON COLUMN group_members.mute_until_secs IS 'Until when the member is muted as the list says, Unix seconds, 4294967295 without end; NULL: not muted.';
COMMENT ON COLUMN group_members.custom_fields IS 'Custom fields of the member as the list says, a JSON object; NULL: none.';
COMMENT ON COLUMN group_members.role IS 'Newest role that a body named, Admin or Member; Owner follows from groups.owner, see active_group_members.';
COMMENT ON COLUMN group_members.role_stamp IS 'Stamp of role.';
COMMENT ON COLUMN group_members.name_card IS 'Newest name card; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN group_members.name_card_stamp IS 'Stamp of name_card.';
COMMENT ON COLUMN group_members.joined_at IS 'Event time of the newest join.';
COMMENT ON COLUMN group_members.left_at IS 'Event time of the newest leave, if no newer callback shows the membership; lists and the end of the group do not count here.';
COMMENT ON COLUMN group_members.has_left IS 'True where left_at is not NULL and no list names the user that may be newer; the end of the group is not written here.';

CREATE TABLE group_list_ranges (
    sdk_app_id bigint NOT NULL,
    group_id   text   COLLATE "C" NOT NULL,
    range      text   COLLATE "C" NOT NULL,
    list_stamp bytea  NOT NULL DEFAULT '',
    CONSTRAINT group_list_ranges_pkey PRIMARY KEY (sdk_app_id, group_id, range)
);
COMMENT ON TABLE group_list_ranges IS 'Complete lists of members of large groups, cut into 256 ranges by the hash of the user id; a range is a register of its own.';
COMMENT ON COLUMN group_list_ranges.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_list_ranges.group_id IS 'The group.';
COMMENT ON COLUMN group_list_ranges.range IS 'First byte of the SHA-256 of the user ids in the range, two hexadecimal digits.';
COMMENT ON COLUMN group_list_ranges.list_stamp IS 'Newest complete list of the users of this range; what groups.members_barrier is for all users.';

-- How fresh each group is. Outside the fold: a read that says nothing new has no ledger entry, and replay leaves the times
-- alone. A group has a row from its first read on: one made with each group cost the creates half as much again. The narrow
-- copies of status, time of creation and type are for the indexes here: a time that moves at every pass may stand in no index
-- of groups, whose updates would no longer be HOT.
CREATE TABLE group_verifications (
    sdk_app_id          bigint  NOT NULL,
    group_id            text    COLLATE "C" NOT NULL,
    status              text    NOT NULL,
    created_at          timestamptz,
    has_member_list     boolean NOT NULL,
    verified_at         timestamptz,
    members_verified_at timestamptz,
    -- LEAST passes over what is NULL, so both are asked for.
    whole_verified_at   timestamptz GENERATED ALWAYS AS (CASE
        WHEN NOT has_member_list THEN verified_at
        WHEN verified_at IS NOT NULL AND members_verified_at IS NOT NULL
        THEN LEAST(verified_at, members_verified_at) END) STORED,
    CONSTRAINT group_verifications_pkey PRIMARY KEY (sdk_app_id, group_id)
) WITH (fillfactor = 80);
-- Serves the orders of GET /v1/groups by these times, as groups_time_idx does: each status has a stretch of its own.
CREATE INDEX group_verifications_time_idx
    ON group_verifications (sdk_app_id, status, verified_at DESC NULLS LAST, group_id);
-- Serves the ages in /v1/stats, whether a gap can be closed, and who reads the oldest first.
CREATE INDEX group_verifications_whole_idx
    ON group_verifications (sdk_app_id, whole_verified_at NULLS FIRST, group_id) WHERE status <> 'destroyed';
COMMENT ON TABLE group_verifications IS 'How fresh each group is: the time as of which it was last read from Tencent with success. No row: never.';
COMMENT ON COLUMN group_verifications.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_verifications.group_id IS 'The group.';
COMMENT ON COLUMN group_verifications.status IS 'Copy of groups.status.';
COMMENT ON COLUMN group_verifications.created_at IS 'Copy of groups.created_at.';
COMMENT ON COLUMN group_verifications.has_member_list IS 'False for an audio-video room, whose members Tencent does not list.';
COMMENT ON COLUMN group_verifications.verified_at IS 'As of when its profile was read; NULL: never.';
COMMENT ON COLUMN group_verifications.members_verified_at IS 'As of when its list of members was read completely; NULL: never.';
COMMENT ON COLUMN group_verifications.whole_verified_at IS 'The older of both times, of a group without a list of members that of the profile; NULL: never.';

CREATE FUNCTION group_verifications_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE group_verifications SET status = NEW.status, created_at = NEW.created_at,
                                   has_member_list = NEW.type IS DISTINCT FROM 'AVChatRoom'
     WHERE sdk_app_id = NEW.sdk_app_id AND group_id = NEW.group_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION group_verifications_follow() IS 'Keeps the copies of three columns of groups in group_verifications.';

-- A trigger and no part of the upsert: what an update has changed is known of the row itself alone, because a statement
-- that waited for the lock of a group still sees group_verifications as it was before.
CREATE TRIGGER group_moved AFTER UPDATE ON groups
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.created_at IS DISTINCT FROM NEW.created_at
                       OR OLD.type IS DISTINCT FROM NEW.type)
    EXECUTE FUNCTION group_verifications_follow();

CREATE TABLE id_list_passes (
    sdk_app_id     bigint      NOT NULL,
    first_began_at timestamptz NOT NULL,
    began_at       timestamptz NOT NULL,
    completed_at   timestamptz NOT NULL,
    CONSTRAINT id_list_passes_app_key UNIQUE (sdk_app_id)
);
COMMENT ON TABLE id_list_passes IS 'When the list of all ids of an app was read to its end: only that shows groups whose create was lost. A row per app.';
COMMENT ON COLUMN id_list_passes.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN id_list_passes.first_began_at IS 'When the first completed pass began: from then on the app is known whole, and a group created later that is not known has lost its create.';
COMMENT ON COLUMN id_list_passes.began_at IS 'When the newest completed pass began.';
COMMENT ON COLUMN id_list_passes.completed_at IS 'When it was completed.';

CREATE TABLE drift_totals (
    sdk_app_id bigint      NOT NULL,
    class      text        NOT NULL,
    kind       text        NOT NULL,
    count      bigint      NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    CONSTRAINT drift_totals_kind_key UNIQUE (sdk_app_id, class, kind)
) WITH (fillfactor = 50); -- counted up by nearly every batch of a backfill
COMMENT ON TABLE drift_totals IS 'How much reads of the REST API have changed of what was shown, by class and kind; counted in the transaction that changes it.';
COMMENT ON COLUMN drift_totals.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN drift_totals.class IS 'repaired: callbacks should have said it; silent: Tencent reports it by no callback; found: it was not known before.';
COMMENT ON COLUMN drift_totals.kind IS 'What was different, such as member_gone.';
COMMENT ON COLUMN drift_totals.count IS 'How often.';
COMMENT ON COLUMN drift_totals.first_at IS 'Receipt of the first such answer.';
COMMENT ON COLUMN drift_totals.last_at IS 'Receipt of the newest.';

CREATE TABLE gaps (
    sdk_app_id bigint      NOT NULL,
    cause      text        NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    callbacks  bigint      NOT NULL,
    closed_at  timestamptz,
    CONSTRAINT gaps_first_key UNIQUE (sdk_app_id, first_at, cause)
);
COMMENT ON TABLE gaps IS 'Periods in which callbacks were not made durable, as the replicas have noted them in their spools, and whether what they may have touched is verified.';
COMMENT ON COLUMN gaps.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN gaps.cause IS 'Why, such as spool_full.';
COMMENT ON COLUMN gaps.first_at IS 'Receipt of the first callback that was lost.';
COMMENT ON COLUMN gaps.last_at IS 'Receipt of the last one.';
COMMENT ON COLUMN gaps.callbacks IS 'How many; 0 where that is not known.';
COMMENT ON COLUMN gaps.closed_at IS 'When every group that it may have touched was found verified again; NULL: it is open.';
