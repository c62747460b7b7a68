-- The one source of truth. Everything the mirror ever learned is a row here, written in the same transaction as its
-- effect; all other tables are a fold of this one and can be rebuilt from it (`group-mirror replay`).
--
-- A stamp, in all tables: 17 bytes of bytea, which are the event time in milliseconds (8 bytes, big-endian), the rank
-- of the command (1 byte) and the first 8 bytes of the digest. The greater stamp is newer, and the empty bytea means
-- "never". It is never NULL: a comparison with NULL would let nothing land.

CREATE TABLE ledger (
    sdk_app_id    bigint      NOT NULL,
    group_id      text        COLLATE "C" NOT NULL,
    time_ms       bigint      NOT NULL,
    digest        bytea       NOT NULL,
    command       text        NOT NULL,
    event_time_ms bigint,
    received_at   timestamptz NOT NULL,
    source        text        NOT NULL,
    outcome       text        NOT NULL,
    reason        text,
    query_command text,
    client_ip     text,
    platform      text,
    request_id    text,
    body          bytea       NOT NULL,
    CONSTRAINT ledger_pkey PRIMARY KEY (sdk_app_id, group_id, time_ms, digest),
    CONSTRAINT ledger_digest_check CHECK (octet_length(digest) = 32),
    CONSTRAINT ledger_source_check CHECK (source IN ('callback', 'rest')),
    CONSTRAINT ledger_outcome_check CHECK (outcome IN ('applied', 'parked')),
    CONSTRAINT ledger_reason_check CHECK ((outcome = 'parked') = (reason IS NOT NULL))
);

-- Without EventTime two equal bodies can be two real events; only an equal RequestID makes them one.
CREATE UNIQUE INDEX ledger_request_id_key ON ledger (sdk_app_id, group_id, digest, request_id)
    WHERE event_time_ms IS NULL AND request_id IS NOT NULL;

-- Serves `replay --parked` and the count of parked rows.
CREATE INDEX ledger_parked_idx ON ledger (sdk_app_id, received_at) WHERE outcome = 'parked';

COMMENT ON TABLE ledger IS 'Every callback and every REST answer that was accepted, with its bytes; never changed but to apply what was parked.';
COMMENT ON COLUMN ledger.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN ledger.group_id IS 'The group; empty where the body does not tell.';
COMMENT ON COLUMN ledger.time_ms IS 'Unix milliseconds: the event time, else the time of first receipt.';
COMMENT ON COLUMN ledger.digest IS 'SHA-256 of command and canonical body without EventTime; equal for every repeat.';
COMMENT ON COLUMN ledger.command IS 'CallbackCommand of the body, else of the query.';
COMMENT ON COLUMN ledger.event_time_ms IS 'EventTime as sent, Unix milliseconds; NULL where absent or not a number.';
COMMENT ON COLUMN ledger.received_at IS 'Time of first receipt, fixed before the first attempt to commit.';
COMMENT ON COLUMN ledger.source IS 'callback or rest.';
COMMENT ON COLUMN ledger.outcome IS 'applied, or parked: authentic, but it could not be made out.';
COMMENT ON COLUMN ledger.reason IS 'Why it is parked.';
COMMENT ON COLUMN ledger.query_command IS 'CallbackCommand of the query where it differs from command.';
COMMENT ON COLUMN ledger.client_ip IS 'ClientIP of the query: whose action it was.';
COMMENT ON COLUMN ledger.platform IS 'OptPlatform of the query; free text.';
COMMENT ON COLUMN ledger.request_id IS 'RequestID of the query; seen, not documented.';
COMMENT ON COLUMN ledger.body IS 'The body as it came; it may hold NUL, broken UTF-8 or no JSON at all.';
