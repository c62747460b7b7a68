-- Whom each entry of the ledger is about, for the history of a person over all groups. Written in the transaction of its entry
-- and made of the entry's bytes alone, so that replay can make it anew. Without a primary key: an entry is entered once, and
-- a key that names it whole would make the index three times as large. Partitioned like the ledger.

CREATE TABLE ledger_people (
    sdk_app_id bigint   NOT NULL,
    time_ms    bigint   NOT NULL,
    parts      smallint NOT NULL,
    group_id   text     COLLATE "C" NOT NULL,
    user_id    text     COLLATE "C" NOT NULL,
    digest     bytea    NOT NULL,
    CONSTRAINT ledger_people_parts_check CHECK (parts BETWEEN 1 AND 7)
) PARTITION BY RANGE (time_ms);

-- Entries of one user in one millisecond are few, and are sorted when they are read.
CREATE INDEX ledger_people_user_idx ON ledger_people (sdk_app_id, user_id, time_ms);

COMMENT ON TABLE ledger_people IS 'Whom each entry of the ledger is about, one row for each user: the history of a person over all groups. A row whose entry is not there shows none.';
COMMENT ON COLUMN ledger_people.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN ledger_people.group_id IS 'As in the ledger entry; empty where it cannot be read.';
COMMENT ON COLUMN ledger_people.user_id IS 'The user.';
COMMENT ON COLUMN ledger_people.time_ms IS 'As in the ledger entry.';
COMMENT ON COLUMN ledger_people.digest IS 'As in the ledger entry.';
COMMENT ON COLUMN ledger_people.parts IS 'What the user is in it, as a sum: 1 operator, 2 member, 4 owner.';

SELECT ledger_new_partition('ledger_people', 'ledger_people_default', 'The partition of ledger_people for entries that are later than any other.');
ALTER TABLE ledger_people ATTACH PARTITION ledger_people_default DEFAULT;

-- Where the feed was at which time, about once a minute, so that a reader of the entries that were received after a time need
-- not begin at the first one; after 30 days one an hour, and none after ten years. Receipt is no order of positions: what
-- waited in a spool comes late.
CREATE TABLE feed_marks (
    marked_at timestamptz NOT NULL DEFAULT now(),
    position  bigint      NOT NULL,
    digest    text        COLLATE "C" NOT NULL
);
CREATE INDEX feed_marks_time_idx ON feed_marks (marked_at);
ALTER TABLE feed_marks REPLICA IDENTITY FULL;

COMMENT ON TABLE feed_marks IS 'High watermarks of the feed with the time at which they were proven: every entry up to there was received before.';
COMMENT ON COLUMN feed_marks.marked_at IS 'By the clock of the database.';
COMMENT ON COLUMN feed_marks.position IS 'A position that was a high watermark then.';
COMMENT ON COLUMN feed_marks.digest IS 'The first 4 bytes, in hex, of the digest of the entry there; the mark counts only while that entry is where it was.';
