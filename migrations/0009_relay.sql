-- The outbox of the relay (a transactional outbox): what is durable here and not delivered to the backend yet.
--
-- A row is written in the transaction that enters its callback into the ledger, where the app has a relay, and deleted
-- when the backend has taken it. So nothing that was answered with OK can be missed, however a process ends, and an app
-- that has no relay pays nothing. The request itself stands in the ledger.

CREATE TABLE relay_outbox (
    sdk_app_id   bigint      NOT NULL,
    group_id     text        COLLATE "C" NOT NULL,
    time_ms      bigint      NOT NULL,
    digest       bytea       NOT NULL,
    -- Callbacks without a group have no order, and none may hold up another.
    order_key    text        COLLATE "C" GENERATED ALWAYS AS
                             (CASE group_id WHEN '' THEN encode(digest, 'hex') ELSE group_id END) STORED,
    place        bigint      NOT NULL,
    received_at  timestamptz NOT NULL,
    position     bigint      NOT NULL,
    request_time bigint,
    origin       bigint      NOT NULL,
    owner        bigint      NOT NULL,
    attempts     int         NOT NULL DEFAULT 0,
    failure      text,
    again        boolean     NOT NULL DEFAULT false,
    CONSTRAINT relay_outbox_pkey PRIMARY KEY (sdk_app_id, group_id, time_ms, digest)
);

-- Which processes have any groups, the groups of one, and what is next in a group.
CREATE INDEX relay_outbox_owner_idx ON relay_outbox (owner, sdk_app_id, order_key, place, received_at, position);

-- Who delivers a group, and what a process has received in it.
CREATE INDEX relay_outbox_origin_idx ON relay_outbox (sdk_app_id, order_key, origin, received_at);

-- What a process has to find by looking, because another one has entered it. Partial, so that nothing is written to it
-- while each process delivers what it has received.
CREATE INDEX relay_outbox_handed_over_idx ON relay_outbox (owner, sdk_app_id, order_key) WHERE owner <> origin;

COMMENT ON TABLE relay_outbox IS 'Callbacks that the backend of the relay has not taken yet; deleted when it has.';
COMMENT ON COLUMN relay_outbox.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN relay_outbox.group_id IS 'The group of the ledger entry; empty where it cannot be read.';
COMMENT ON COLUMN relay_outbox.time_ms IS 'As in the ledger entry.';
COMMENT ON COLUMN relay_outbox.digest IS 'As in the ledger entry.';
COMMENT ON COLUMN relay_outbox.order_key IS 'What is delivered in order: the group, or the callback alone where it has none.';
COMMENT ON COLUMN relay_outbox.place IS 'The order of delivery, together with received_at and position: the position of the ledger entry, or an earlier one, of what the same process has received later and entered before.';
COMMENT ON COLUMN relay_outbox.received_at IS 'Time of receipt.';
COMMENT ON COLUMN relay_outbox.position IS 'Position of the ledger entry when it was queued: the order of receipts in one millisecond.';
COMMENT ON COLUMN relay_outbox.request_time IS 'RequestTime of the query as it came, in Unix seconds; NULL where absent or not known.';
COMMENT ON COLUMN relay_outbox.origin IS 'The process that entered it, by a random number; 0: the command relay --again.';
COMMENT ON COLUMN relay_outbox.owner IS 'The process that delivers it, and every other entry of its group; 0: none yet.';
COMMENT ON COLUMN relay_outbox.attempts IS 'How many attempts have failed.';
COMMENT ON COLUMN relay_outbox.failure IS 'A label of what the last attempt failed with.';
COMMENT ON COLUMN relay_outbox.again IS 'Queued by hand, after an earlier delivery.';

CREATE TABLE relay_skipped (
    sdk_app_id  bigint      NOT NULL,
    group_id    text        COLLATE "C" NOT NULL,
    time_ms     bigint      NOT NULL,
    digest      bytea       NOT NULL,
    received_at timestamptz NOT NULL,
    skipped_at  timestamptz NOT NULL DEFAULT now(),
    attempts    int         NOT NULL,
    failure     text        NOT NULL,
    CONSTRAINT relay_skipped_pkey PRIMARY KEY (sdk_app_id, group_id, time_ms, digest)
);

COMMENT ON TABLE relay_skipped IS 'Callbacks that the backend did not take and that are not tried any more; relay --again queues them anew.';
COMMENT ON COLUMN relay_skipped.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN relay_skipped.group_id IS 'The group of the ledger entry; empty where it cannot be read.';
COMMENT ON COLUMN relay_skipped.time_ms IS 'As in the ledger entry.';
COMMENT ON COLUMN relay_skipped.digest IS 'As in the ledger entry.';
COMMENT ON COLUMN relay_skipped.received_at IS 'Time of receipt.';
COMMENT ON COLUMN relay_skipped.skipped_at IS 'When it was given up.';
COMMENT ON COLUMN relay_skipped.attempts IS 'How many attempts have failed.';
COMMENT ON COLUMN relay_skipped.failure IS 'A label of what the last attempt failed with.';
