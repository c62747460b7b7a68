-- What `group-mirror prune` puts in the place of old entries of the ledger (a checkpoint, as in write-ahead logging: the fold of
-- what is dropped). Merging is a join, so the mirror is the join of a group's checkpoint with its entries that are left. Only
-- what can never change any more is folded into it: entries that were applied as a whole, under a key of their own event time.

-- One row for each row of the mirror that the dropped entries make: the checkpoint of a group is all its rows.
CREATE TABLE checkpoints (
    sdk_app_id bigint   NOT NULL,
    group_id   text     COLLATE "C" NOT NULL,
    part       smallint NOT NULL,
    key        text     COLLATE "C" NOT NULL,
    registers  jsonb    NOT NULL,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (sdk_app_id, group_id, part, key),
    CONSTRAINT checkpoints_part_check CHECK (part BETWEEN 0 AND 5)
);
COMMENT ON TABLE checkpoints IS 'The fold of the entries that were pruned, with the stamps of its registers. The mirror is what this and the ledger say together.';
COMMENT ON COLUMN checkpoints.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN checkpoints.group_id IS 'The group.';
COMMENT ON COLUMN checkpoints.part IS 'Which table the row is of: 0 groups, 1 group_list_ranges, 2 group_members, 3 group_user_defined_fields, 4 group_attributes, 5 group_topics.';
COMMENT ON COLUMN checkpoints.key IS 'The last column of the key there; empty for the group itself.';
COMMENT ON COLUMN checkpoints.registers IS 'The columns of the registers and barriers that were ever raised, by their names, as text; a stamp in hex.';

-- How far the ledger is pruned.
CREATE TABLE prune_state (
    only_row        boolean NOT NULL DEFAULT true,
    pruned_until_ms bigint,
    position        bigint  NOT NULL DEFAULT 0,
    position_digest text    COLLATE "C" NOT NULL DEFAULT '',
    CONSTRAINT prune_state_only_row_key UNIQUE (only_row),
    CONSTRAINT prune_state_only_row_check CHECK (only_row)
);
INSERT INTO prune_state DEFAULT VALUES;
ALTER TABLE prune_state REPLICA IDENTITY FULL;
COMMENT ON TABLE prune_state IS 'One row: how far the ledger is pruned.';
COMMENT ON COLUMN prune_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN prune_state.pruned_until_ms IS 'Unix milliseconds: entries of an earlier event time may have been dropped, so history is whole from here on. NULL: nothing was pruned.';
COMMENT ON COLUMN prune_state.position IS 'The greatest position in the feed of an entry that was dropped: a cursor below it may have missed entries. 0: none.';
COMMENT ON COLUMN prune_state.position_digest IS 'The first 4 bytes, in hex, of the digest of the entry there.';
