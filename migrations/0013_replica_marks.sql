-- How far each service has committed, by lane of its writer. With KEEP_ANSWERED_SECS a batch raises the mark of its lane in
-- its own transaction, and the service knows the highest mark whose commit was confirmed. A database that has a lower one has
-- lost commits: a standby took over that had not received them, or files or a dump were restored. Outside the fold of the
-- ledger; a lost row costs a repetition. A lane has a row of its own, so that two lanes never wait for one row.

CREATE TABLE replica_marks (
    replica_id text        COLLATE "C" NOT NULL,
    lane       smallint    NOT NULL,
    mark       bigint      NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT replica_marks_key UNIQUE (replica_id, lane)
) WITH (fillfactor = 20);
COMMENT ON TABLE replica_marks IS 'How far each service with KEEP_ANSWERED_SECS has committed, by lane of its writer.';
COMMENT ON COLUMN replica_marks.replica_id IS 'The id of the data directory of the service, 32 digits in hex.';
COMMENT ON COLUMN replica_marks.lane IS 'Which of its writers: 0 and 1 commit new callbacks, 2 drains the spool.';
COMMENT ON COLUMN replica_marks.mark IS 'The mark of the newest batch of this lane; it only grows.';
COMMENT ON COLUMN replica_marks.raised_at IS 'When that batch was committed, by the clock of the database.';
