-- What a cursor of the feed is checked against, so that one from another ledger is refused. It needs no function that
-- managed servers withhold: a row that the migration writes, and the digest of the entry at the cursor's position.

CREATE TABLE feed (
    epoch                 uuid    NOT NULL DEFAULT gen_random_uuid(),
    high_watermark        bigint  NOT NULL DEFAULT 0,
    high_watermark_digest text    COLLATE "C" NOT NULL DEFAULT '',
    only_row              boolean NOT NULL DEFAULT true,
    CONSTRAINT feed_only_row_key UNIQUE (only_row),
    CONSTRAINT feed_only_row_check CHECK (only_row)
);
INSERT INTO feed DEFAULT VALUES;

COMMENT ON TABLE feed IS 'One row: which ledger this is, for the cursors of the feed, and how far it is known to be complete.';
COMMENT ON COLUMN feed.epoch IS 'Chosen at random by the migration; UPDATE feed SET epoch = DEFAULT makes all cursors invalid.';
COMMENT ON COLUMN feed.high_watermark IS 'A position that was proven to be a high watermark, some seconds old at most in quiet times: what the feed gives while a transaction holds it back. 0: none yet.';
COMMENT ON COLUMN feed.high_watermark_digest IS 'The first 4 bytes, in hex, of the digest of the entry there; it counts only while that entry is where it was.';
COMMENT ON COLUMN feed.only_row IS 'Keeps the table at one row.';

-- An entry that is applied after it was parked, or whose earlier receipt turns up, moves to the end of the feed, and a
-- parked one that another entry repeats is deleted. Followers that stand at its old position have missed nothing, and an
-- empty position alone would look like another ledger. Written by the statements that move or delete an entry and by no trigger: an entry
-- that moves to another partition fires those of a delete and an insert.
CREATE TABLE ledger_moves (
    position bigint NOT NULL,
    digest   bytea  NOT NULL
);
CREATE INDEX ledger_moves_position_idx ON ledger_moves (position);

COMMENT ON TABLE ledger_moves IS 'Positions of the feed that an entry has left: cursors that stand there stay valid.';
COMMENT ON COLUMN ledger_moves.position IS 'The position in the feed that was left.';
COMMENT ON COLUMN ledger_moves.digest IS 'Digest of the entry that stood there.';
