-- What passes over Tencent's REST API have to read and how far they have come. Outside the fold of the ledger: nothing here
-- says what a group is, and all of it can be lost, at the price of a pass that begins anew. What is noted here is written in
-- the transaction of the snapshots that it is about.

-- A lease, because one pass at a time is enough for a database, whatever the number of replicas. Its term is a fencing
-- token: it grows whenever the lease is taken.
CREATE TABLE reconcile_lease (
    only_row        boolean     NOT NULL DEFAULT true,
    term            bigint      NOT NULL DEFAULT 0,
    holder          text        COLLATE "C",
    is_command      boolean     NOT NULL DEFAULT false,
    held_until      timestamptz NOT NULL DEFAULT '-infinity',
    marked_position bigint      NOT NULL DEFAULT -1,
    marked_digest   text        COLLATE "C" NOT NULL DEFAULT '',
    CONSTRAINT reconcile_lease_only_row_key UNIQUE (only_row),
    CONSTRAINT reconcile_lease_only_row_check CHECK (only_row)
);
INSERT INTO reconcile_lease DEFAULT VALUES;
COMMENT ON TABLE reconcile_lease IS 'One row: which process reads from Tencent now, and how far its marks follow the ledger.';
COMMENT ON COLUMN reconcile_lease.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN reconcile_lease.term IS 'Grows whenever the lease is taken: a holder with an older term has lost it.';
COMMENT ON COLUMN reconcile_lease.holder IS 'The process that has it, for people; NULL: it was given back.';
COMMENT ON COLUMN reconcile_lease.is_command IS 'True for a command, which a serve does not take the lease from before it ends.';
COMMENT ON COLUMN reconcile_lease.held_until IS 'When it ends unless it is renewed, by the clock of the database.';
COMMENT ON COLUMN reconcile_lease.marked_position IS 'Up to this position of the ledger callbacks have marked their groups; -1: nothing was followed yet.';
COMMENT ON COLUMN reconcile_lease.marked_digest IS 'The first 4 bytes, in hex, of the digest of the entry there.';

CREATE TABLE reconcile_passes (
    sdk_app_id  bigint      NOT NULL,
    number      bigint      NOT NULL,
    kind        text        NOT NULL,
    phase       text        NOT NULL,
    ids_next    text        COLLATE "C" NOT NULL DEFAULT '0',
    ids_listed  bigint      NOT NULL DEFAULT 0,
    swept_to    text        COLLATE "C" NOT NULL DEFAULT '',
    known       bigint      NOT NULL DEFAULT 0,
    found_alive bigint      NOT NULL DEFAULT 0,
    asked       bigint      NOT NULL DEFAULT 0,
    begun_at    timestamptz NOT NULL,
    ended_at    timestamptz,
    stopped     text,
    stopped_at  timestamptz,
    CONSTRAINT reconcile_passes_key UNIQUE (sdk_app_id),
    CONSTRAINT reconcile_passes_kind_check CHECK (kind IN ('rolling', 'backfill', 'reconcile')),
    CONSTRAINT reconcile_passes_phase_check CHECK (phase IN ('ids', 'known', 'new', 'lists', 'gone', 'ended'))
) WITH (fillfactor = 50);
COMMENT ON TABLE reconcile_passes IS 'The newest pass of each app and how far it is; a pass that was interrupted goes on from here.';
COMMENT ON COLUMN reconcile_passes.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN reconcile_passes.number IS 'Which pass it is; 1 was the first.';
COMMENT ON COLUMN reconcile_passes.kind IS 'rolling, of a serve; backfill or reconcile, by command.';
COMMENT ON COLUMN reconcile_passes.phase IS 'ids: the list of ids is read; known: groups of the mirror; new: groups that only the list has; lists: what is read one by one; gone: groups that were not found are asked for again; ended.';
COMMENT ON COLUMN reconcile_passes.ids_next IS 'Next of the list of ids, an unsigned number of 64 bits.';
COMMENT ON COLUMN reconcile_passes.ids_listed IS 'How many ids the list has brought.';
COMMENT ON COLUMN reconcile_passes.swept_to IS 'In the phases known and new: every group up to this id was asked for.';
COMMENT ON COLUMN reconcile_passes.known IS 'How many groups the mirror showed when the pass began.';
COMMENT ON COLUMN reconcile_passes.found_alive IS 'How many of them Tencent has answered for.';
COMMENT ON COLUMN reconcile_passes.asked IS 'How many groups were asked for.';
COMMENT ON COLUMN reconcile_passes.begun_at IS 'When it began.';
COMMENT ON COLUMN reconcile_passes.ended_at IS 'When it ended; NULL: it has not.';
COMMENT ON COLUMN reconcile_passes.stopped IS 'Why it stopped, in one line; NULL: it goes on or has ended.';
COMMENT ON COLUMN reconcile_passes.stopped_at IS 'When it stopped.';

CREATE TABLE group_reads (
    sdk_app_id     bigint NOT NULL,
    group_id       text   COLLATE "C" NOT NULL,
    pass           bigint NOT NULL DEFAULT 0,
    member_num     bigint,
    last_info_secs bigint,
    next_message   bigint,
    create_secs    bigint,
    CONSTRAINT group_reads_pkey PRIMARY KEY (sdk_app_id, group_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE group_reads IS 'Every group that the list of ids or a pass has named: in which pass it was asked for last, and the witnesses of its newest profile.';
COMMENT ON COLUMN group_reads.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_reads.group_id IS 'The group.';
COMMENT ON COLUMN group_reads.pass IS 'Number of the last pass that asked for it, whatever the answer was; 0: none has yet.';
COMMENT ON COLUMN group_reads.member_num IS 'MemberNum, as last read; NULL where it is not known.';
COMMENT ON COLUMN group_reads.last_info_secs IS 'LastInfoTime, as last read, Unix seconds.';
COMMENT ON COLUMN group_reads.next_message IS 'NextMsgSeq, as last read.';
COMMENT ON COLUMN group_reads.create_secs IS 'CreateTime, as last read, Unix seconds.';

-- Another table, because a group has up to four of them and the sweep reads none.
CREATE TABLE group_read_digests (
    sdk_app_id bigint NOT NULL,
    group_id   text   COLLATE "C" NOT NULL,
    kind       text   COLLATE "C" NOT NULL,
    digest     bytea  NOT NULL,
    read_stamp bytea  NOT NULL,
    entries    text   COLLATE "C" NOT NULL,
    CONSTRAINT group_read_digests_pkey PRIMARY KEY (sdk_app_id, group_id, kind),
    CONSTRAINT group_read_digests_kind_check CHECK (kind IN ('profile', 'members', 'attributes', 'topics'))
) WITH (fillfactor = 80);
COMMENT ON TABLE group_read_digests IS 'What a group was read as last, by kind of read, after that was compared with the mirror: while the entries of the group are the same, a read that says the same is not compared again. Each row can be deleted at any time; the next read is compared then.';
COMMENT ON COLUMN group_read_digests.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_read_digests.group_id IS 'The group.';
COMMENT ON COLUMN group_read_digests.kind IS 'profile, members (a list in one entry), attributes or topics.';
COMMENT ON COLUMN group_read_digests.digest IS 'SHA-256 of what the read stated.';
COMMENT ON COLUMN group_read_digests.read_stamp IS 'The stamp of the read: an older one is compared.';
COMMENT ON COLUMN group_read_digests.entries IS 'MD5 of the positions of all entries that the ledger had of the group after that.';

CREATE TABLE group_work (
    sdk_app_id bigint      NOT NULL,
    group_id   text        COLLATE "C" NOT NULL,
    class      smallint    NOT NULL,
    cause      text        NOT NULL,
    parts      smallint    NOT NULL DEFAULT 0,
    newest_ms  bigint      NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0,
    pass       bigint,
    CONSTRAINT group_work_pkey PRIMARY KEY (sdk_app_id, group_id),
    CONSTRAINT group_work_class_check CHECK (class BETWEEN 1 AND 5)
) WITH (fillfactor = 80);
CREATE INDEX group_work_due_idx ON group_work (sdk_app_id, class, due_at);
COMMENT ON TABLE group_work IS 'Groups that are to be read by themselves, apart from the sweep over all groups; a row ends when that is done.';
COMMENT ON COLUMN group_work.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_work.group_id IS 'The group.';
COMMENT ON COLUMN group_work.class IS '1: marked by a callback; 2: touched by a gap; 3: MemberNum is not the count of the mirror; 4: another witness moved; 5: nothing but its turn.';
COMMENT ON COLUMN group_work.cause IS 'Why it is here, the first cause of its class.';
COMMENT ON COLUMN group_work.parts IS 'What is to be read beside the profile: 1 members, 2 attributes, 4 topics, as a sum.';
COMMENT ON COLUMN group_work.newest_ms IS 'Event time of the newest callback that marked it, Unix milliseconds: a read as of an earlier time does not do. 0: none did.';
COMMENT ON COLUMN group_work.due_at IS 'Not read before.';
COMMENT ON COLUMN group_work.attempts IS 'How often it was read in vain.';
COMMENT ON COLUMN group_work.pass IS 'The pass that does not end before this is done; NULL: none waits.';

CREATE TABLE gone_candidates (
    sdk_app_id bigint NOT NULL,
    group_id   text   COLLATE "C" NOT NULL,
    asked_ms   bigint NOT NULL,
    CONSTRAINT gone_candidates_pkey PRIMARY KEY (sdk_app_id, group_id)
);
COMMENT ON TABLE gone_candidates IS 'Groups of the mirror for which Tencent has said once that there is no such group. They stay what they are until the end of the pass, when it is known how many there are and they are asked for again. A new pass begins without any.';
COMMENT ON COLUMN gone_candidates.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN gone_candidates.group_id IS 'The group.';
COMMENT ON COLUMN gone_candidates.asked_ms IS 'A lower bound of Tencent''s clock when it was asked, Unix milliseconds.';

-- A complete list of a large group takes many calls. Its pages wait here, so that an interruption costs one of them; when
-- the list is complete they become one snapshot.
CREATE TABLE list_pages (
    sdk_app_id bigint  NOT NULL,
    group_id   text    COLLATE "C" NOT NULL,
    page       integer NOT NULL,
    mark       text    NOT NULL,
    answer     bytea   NOT NULL,
    CONSTRAINT list_pages_pkey PRIMARY KEY (sdk_app_id, group_id, page)
);
COMMENT ON TABLE list_pages IS 'Pages of lists of members that are being read, until the last one has come.';
COMMENT ON COLUMN list_pages.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN list_pages.group_id IS 'The group.';
COMMENT ON COLUMN list_pages.page IS 'Number of the page, from 0.';
COMMENT ON COLUMN list_pages.mark IS 'Where the page after this one begins, and as of when the list counts; JSON.';
COMMENT ON COLUMN list_pages.answer IS 'The members that the page added, in the canonical form of a list.';
