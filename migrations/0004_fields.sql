-- Two collections of keys with values that Tencent keeps apart: user-defined fields (part of the profile, ten keys, set
-- in the console) and attributes (a key-value store, sixteen keys, set freely). One register per key.

CREATE TABLE group_user_defined_fields (
    sdk_app_id  bigint NOT NULL,
    group_id    text   COLLATE "C" NOT NULL,
    key         text   COLLATE "C" NOT NULL,
    value       text,
    value_stamp bytea  NOT NULL DEFAULT '',
    CONSTRAINT group_user_defined_fields_pkey PRIMARY KEY (sdk_app_id, group_id, key)
);
-- Serves the filter `field[KEY]`. It holds the beginning of a value only: an index entry cannot be
-- longer than 2.7 kB.
CREATE INDEX group_user_defined_fields_value_idx ON group_user_defined_fields (sdk_app_id, key, left(value, 64));
COMMENT ON TABLE group_user_defined_fields IS 'User-defined fields of groups; one older than the barriers of its group does not count.';
COMMENT ON COLUMN group_user_defined_fields.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_user_defined_fields.group_id IS 'The group.';
COMMENT ON COLUMN group_user_defined_fields.key IS 'Key as created in the console.';
COMMENT ON COLUMN group_user_defined_fields.value IS 'Value; U+0000 is stored as U+FFFD.';
COMMENT ON COLUMN group_user_defined_fields.value_stamp IS 'Stamp of value.';

CREATE TABLE group_attributes (
    sdk_app_id  bigint NOT NULL,
    group_id    text   COLLATE "C" NOT NULL,
    key         text   COLLATE "C" NOT NULL,
    value       text,
    value_stamp bytea  NOT NULL DEFAULT '',
    CONSTRAINT group_attributes_pkey PRIMARY KEY (sdk_app_id, group_id, key)
);
COMMENT ON TABLE group_attributes IS 'Attributes of groups; one older than the barriers of its group does not count.';
COMMENT ON COLUMN group_attributes.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_attributes.group_id IS 'The group.';
COMMENT ON COLUMN group_attributes.key IS 'Key.';
COMMENT ON COLUMN group_attributes.value IS 'Value; NULL: the key was deleted. U+0000 is stored as U+FFFD.';
COMMENT ON COLUMN group_attributes.value_stamp IS 'Stamp of value.';
