-- Topics of communities. A topic exists while its newest sign of life is newer than its destroy and not older than the
-- barriers of the group. Topic callbacks are documented without an event time; where it is absent their stamps hold the time
-- of receipt, and parallel connections reverse receipts. So a change of profile undoes a destroy only from 10 s after it on,
-- as with groups; a create does at once.

CREATE TABLE group_topics (
    sdk_app_id         bigint NOT NULL,
    group_id           text   COLLATE "C" NOT NULL,
    topic_id           text   COLLATE "C" NOT NULL,
    created_by         text   COLLATE "C",
    created_stamp      bytea  NOT NULL DEFAULT '',
    alive_stamp        bytea  NOT NULL DEFAULT '',
    read_stamp         bytea  NOT NULL DEFAULT '',
    missing_stamp      bytea  NOT NULL DEFAULT '',
    destroyed_stamp    bytea  NOT NULL DEFAULT '',
    revival_barrier    bytea  NOT NULL DEFAULT '',
    name               text,
    name_stamp         bytea  NOT NULL DEFAULT '',
    introduction       text,
    introduction_stamp bytea  NOT NULL DEFAULT '',
    notification       text,
    notification_stamp bytea  NOT NULL DEFAULT '',
    face_url           text,
    face_url_stamp     bytea  NOT NULL DEFAULT '',
    created_at   timestamptz GENERATED ALWAYS AS (
        to_timestamp(('x' || encode(substring(NULLIF(created_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0)) STORED,
    destroyed_at timestamptz GENERATED ALWAYS AS (CASE
        WHEN destroyed_stamp >= GREATEST(created_stamp, read_stamp) AND alive_stamp < revival_barrier
        THEN to_timestamp(('x' || encode(substring(NULLIF(destroyed_stamp, '') FROM 1 FOR 8), 'hex'))::bit(64)::bigint / 1000.0) END) STORED,
    CONSTRAINT group_topics_pkey PRIMARY KEY (sdk_app_id, group_id, topic_id)
);
COMMENT ON TABLE group_topics IS 'Topics of communities, the destroyed ones included.';
COMMENT ON COLUMN group_topics.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN group_topics.group_id IS 'The community.';
COMMENT ON COLUMN group_topics.topic_id IS 'Id as Tencent writes it; case counts.';
COMMENT ON COLUMN group_topics.created_by IS 'Operator of the newest create.';
COMMENT ON COLUMN group_topics.created_stamp IS 'Stamp of the newest create.';
COMMENT ON COLUMN group_topics.alive_stamp IS 'Newest change of profile: the callback but a create that shows that the topic exists.';
COMMENT ON COLUMN group_topics.read_stamp IS 'Newest list of topics that names it. No callback raises it.';
COMMENT ON COLUMN group_topics.missing_stamp IS 'Newest complete list of topics that left it out while the mirror showed it: when it ended, as far as is known.';
COMMENT ON COLUMN group_topics.destroyed_stamp IS 'Stamp of the newest destroy; also a barrier of the profile.';
COMMENT ON COLUMN group_topics.revival_barrier IS 'Newest destroy plus 10 s: an older alive_stamp does not undo the destroy.';
COMMENT ON COLUMN group_topics.name IS 'Newest name.';
COMMENT ON COLUMN group_topics.name_stamp IS 'Stamp of name.';
COMMENT ON COLUMN group_topics.introduction IS 'Newest introduction; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN group_topics.introduction_stamp IS 'Stamp of introduction.';
COMMENT ON COLUMN group_topics.notification IS 'Newest notice; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN group_topics.notification_stamp IS 'Stamp of notification.';
COMMENT ON COLUMN group_topics.face_url IS 'Newest URL of the avatar; empty where it was cleared, NULL where no callback named one.';
COMMENT ON COLUMN group_topics.face_url_stamp IS 'Stamp of face_url.';
COMMENT ON COLUMN group_topics.created_at IS 'Time of the newest create.';
COMMENT ON COLUMN group_topics.destroyed_at IS 'Time of the newest destroy, if nothing that counts shows the topic again; the end of the group is not written here.';
