-- Persons who are erased (`group-mirror erase-user`): what is written in the place of their ids. Outside the fold: the ledger
-- has the pseudonyms themselves. An id is kept as its keyed hash alone, because the table would else name whom it hides.

-- One row. Each batch of callbacks compares the version with the one that it has replaced ids by, in the statement that
-- enters it; an erasure locks the table for a moment, so that no batch which does not know it is under way.
CREATE TABLE erasure_state (
    only_row boolean NOT NULL DEFAULT true,
    key      bytea   NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    version  bigint  NOT NULL DEFAULT 0,
    CONSTRAINT erasure_state_only_row_key UNIQUE (only_row),
    CONSTRAINT erasure_state_only_row_check CHECK (only_row)
);
INSERT INTO erasure_state DEFAULT VALUES;
ALTER TABLE erasure_state REPLICA IDENTITY FULL;
COMMENT ON TABLE erasure_state IS 'One row: the key by which erased ids are known, and a number that each erasure raises.';
COMMENT ON COLUMN erasure_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN erasure_state.key IS 'Key of the HMAC-SHA-256 in erasures.user_hash, random.';
COMMENT ON COLUMN erasure_state.version IS 'Raised by each erasure: what a process knows of them is out of date where it has another.';

CREATE TABLE erasures (
    sdk_app_id   bigint  NOT NULL,
    user_hash    bytea   NOT NULL,
    pseudonym    text    COLLATE "C" NOT NULL,
    erased_at_ms bigint  NOT NULL,
    stays_erased boolean NOT NULL DEFAULT false,
    CONSTRAINT erasures_user_key UNIQUE (sdk_app_id, user_hash),
    CONSTRAINT erasures_hash_check CHECK (octet_length(user_hash) = 32)
);
ALTER TABLE erasures REPLICA IDENTITY FULL;
COMMENT ON TABLE erasures IS 'Persons who are erased: what comes late about them gets the pseudonym before it is entered.';
COMMENT ON COLUMN erasures.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN erasures.user_hash IS 'HMAC-SHA-256 of the user id under erasure_state.key.';
COMMENT ON COLUMN erasures.pseudonym IS 'What stands in the place of the id.';
COMMENT ON COLUMN erasures.erased_at_ms IS 'Moment of the newest erasure, Unix milliseconds: what counts from a later time is new.';
COMMENT ON COLUMN erasures.stays_erased IS 'What is later gets the pseudonym as well.';
