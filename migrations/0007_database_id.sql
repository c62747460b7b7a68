-- The identity of this database. A data directory remembers it, so that a spool never drains into another database. It
-- is a row, so a copy or a restore by dump keeps it: then it is the same mirror.

CREATE TABLE database_identity (
    only_row    boolean     NOT NULL DEFAULT true,
    database_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT database_identity_pkey PRIMARY KEY (only_row),
    CONSTRAINT database_identity_one_row CHECK (only_row)
);
COMMENT ON TABLE database_identity IS 'One row: the id by which a data directory recognises the database that its spool belongs to.';
COMMENT ON COLUMN database_identity.only_row IS 'Always true: keeps the table at one row.';
COMMENT ON COLUMN database_identity.database_id IS 'Random, written once by the migration; a dump and its restore keep it.';
COMMENT ON COLUMN database_identity.created_at IS 'When the id was written.';

INSERT INTO database_identity DEFAULT VALUES;
