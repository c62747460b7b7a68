-- Written by `UPDATE_SNAPSHOTS=1 cargo test --test it statements`: what mirror/tables.rs comes to in SQL.

-- upsert_groups
INSERT INTO groups AS t (
    sdk_app_id, group_id, type, type_stamp, name, name_caseless, name_stamp, introduction, introduction_stamp,
    notification, notification_stamp, face_url, face_url_stamp, owner, owner_stamp, created_by, created_stamp,
    create_barrier, destroyed_stamp, revival_barrier, alive_stamp, updated_stamp, attributes_barrier,
    attributes_unclear, topics_unclear)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::bytea[], $8::text[],
    $9::bytea[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::text[], $15::bytea[], $16::text[],
    $17::bytea[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[],
    $24::bytea[], $25::bytea[])
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    type = CASE WHEN EXCLUDED.type_stamp > t.type_stamp
        THEN EXCLUDED.type ELSE t.type END,
    type_stamp = GREATEST(t.type_stamp, EXCLUDED.type_stamp),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name ELSE t.name END,
    name_caseless = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name_caseless ELSE t.name_caseless END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp
        THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp),
    owner = CASE WHEN EXCLUDED.owner_stamp > t.owner_stamp
        THEN EXCLUDED.owner ELSE t.owner END,
    owner_stamp = GREATEST(t.owner_stamp, EXCLUDED.owner_stamp),
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp
        THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    create_barrier = GREATEST(t.create_barrier, EXCLUDED.create_barrier),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    updated_stamp = GREATEST(t.updated_stamp, EXCLUDED.updated_stamp),
    attributes_barrier = GREATEST(t.attributes_barrier, EXCLUDED.attributes_barrier),
    attributes_unclear = GREATEST(t.attributes_unclear, EXCLUDED.attributes_unclear),
    topics_unclear = GREATEST(t.topics_unclear, EXCLUDED.topics_unclear)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.type_stamp > t.type_stamp
   OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp
   OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp
   OR EXCLUDED.owner_stamp > t.owner_stamp
   OR EXCLUDED.created_stamp > t.created_stamp
   OR EXCLUDED.create_barrier > t.create_barrier
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.updated_stamp > t.updated_stamp
   OR EXCLUDED.attributes_barrier > t.attributes_barrier
   OR EXCLUDED.attributes_unclear > t.attributes_unclear
   OR EXCLUDED.topics_unclear > t.topics_unclear;

-- upsert_group_members
INSERT INTO group_members AS t (
    sdk_app_id, group_id, user_id, join_type, joined_by, join_stamp, exit_type, left_by, leave_stamp,
    revival_barrier, confirmed_stamp, role, role_stamp, name_card, name_card_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[],
    $9::bytea[], $10::bytea[], $11::bytea[], $12::text[], $13::bytea[], $14::text[], $15::bytea[])
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET
    join_type = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.join_type ELSE t.join_type END,
    joined_by = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.joined_by ELSE t.joined_by END,
    join_stamp = GREATEST(t.join_stamp, EXCLUDED.join_stamp),
    exit_type = CASE WHEN EXCLUDED.leave_stamp > t.leave_stamp
        THEN EXCLUDED.exit_type ELSE t.exit_type END,
    left_by = CASE WHEN EXCLUDED.leave_stamp > t.leave_stamp
        THEN EXCLUDED.left_by ELSE t.left_by END,
    leave_stamp = GREATEST(t.leave_stamp, EXCLUDED.leave_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    confirmed_stamp = GREATEST(t.confirmed_stamp, EXCLUDED.confirmed_stamp),
    role = CASE WHEN EXCLUDED.role_stamp > t.role_stamp
        THEN EXCLUDED.role ELSE t.role END,
    role_stamp = GREATEST(t.role_stamp, EXCLUDED.role_stamp),
    name_card = CASE WHEN EXCLUDED.name_card_stamp > t.name_card_stamp
        THEN EXCLUDED.name_card ELSE t.name_card END,
    name_card_stamp = GREATEST(t.name_card_stamp, EXCLUDED.name_card_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.join_stamp > t.join_stamp
   OR EXCLUDED.leave_stamp > t.leave_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.confirmed_stamp > t.confirmed_stamp
   OR EXCLUDED.role_stamp > t.role_stamp
   OR EXCLUDED.name_card_stamp > t.name_card_stamp;

-- upsert_group_user_defined_fields
INSERT INTO group_user_defined_fields AS t (
    sdk_app_id, group_id, key, value, value_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
ON CONFLICT (sdk_app_id, group_id, key) DO UPDATE SET
    value = CASE WHEN EXCLUDED.value_stamp > t.value_stamp
        THEN EXCLUDED.value ELSE t.value END,
    value_stamp = GREATEST(t.value_stamp, EXCLUDED.value_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.value_stamp > t.value_stamp;

-- upsert_group_attributes
INSERT INTO group_attributes AS t (
    sdk_app_id, group_id, key, value, value_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
ON CONFLICT (sdk_app_id, group_id, key) DO UPDATE SET
    value = CASE WHEN EXCLUDED.value_stamp > t.value_stamp
        THEN EXCLUDED.value ELSE t.value END,
    value_stamp = GREATEST(t.value_stamp, EXCLUDED.value_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.value_stamp > t.value_stamp;

-- upsert_group_topics
INSERT INTO group_topics AS t (
    sdk_app_id, group_id, topic_id, created_by, created_stamp, alive_stamp, destroyed_stamp, revival_barrier,
    name, name_stamp, introduction, introduction_stamp, notification, notification_stamp, face_url,
    face_url_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[],
    $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[], $15::text[], $16::bytea[])
ON CONFLICT (sdk_app_id, group_id, topic_id) DO UPDATE SET
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp
        THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name ELSE t.name END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp
        THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.created_stamp > t.created_stamp
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp
   OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp;

-- upsert_groups_with_creates_or_destroys
INSERT INTO groups AS t (
    sdk_app_id, group_id, earlier_ends, type, type_stamp, name, name_caseless, name_stamp, introduction,
    introduction_stamp, notification, notification_stamp, face_url, face_url_stamp, owner, owner_stamp,
    created_by, created_stamp, create_barrier, destroyed_stamp, revival_barrier, alive_stamp, updated_stamp,
    attributes_barrier, attributes_unclear, topics_unclear)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::bytea[],
    $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[], $15::text[], $16::bytea[],
    $17::text[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[],
    $24::bytea[], $25::bytea[], $26::bytea[])
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    earlier_ends = CASE WHEN EXCLUDED.earlier_ends > ''
   OR (EXCLUDED.created_stamp <> t.created_stamp AND LEAST(EXCLUDED.created_stamp, t.created_stamp) > '')
   OR (EXCLUDED.destroyed_stamp <> t.destroyed_stamp AND LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) > '') THEN (
            SELECT string_agg(kept.stamp, '' ORDER BY kept.stamp DESC) FROM (
                SELECT DISTINCT substring(s.ends FROM n FOR 17) AS stamp
                  FROM (SELECT t.earlier_ends || EXCLUDED.earlier_ends
                               || LEAST(EXCLUDED.created_stamp, t.created_stamp)
                               || LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) AS ends) s,
                       generate_series(1, length(s.ends), 17) n
                 WHERE substring(s.ends FROM n FOR 17) NOT IN (
                       GREATEST(EXCLUDED.created_stamp, t.created_stamp),
                       GREATEST(EXCLUDED.destroyed_stamp, t.destroyed_stamp))
                 ORDER BY stamp DESC LIMIT 32) kept)
        ELSE t.earlier_ends END,
    type = CASE WHEN EXCLUDED.type_stamp > t.type_stamp
        THEN EXCLUDED.type ELSE t.type END,
    type_stamp = GREATEST(t.type_stamp, EXCLUDED.type_stamp),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name ELSE t.name END,
    name_caseless = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name_caseless ELSE t.name_caseless END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp
        THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp),
    owner = CASE WHEN EXCLUDED.owner_stamp > t.owner_stamp
        THEN EXCLUDED.owner ELSE t.owner END,
    owner_stamp = GREATEST(t.owner_stamp, EXCLUDED.owner_stamp),
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp
        THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    create_barrier = GREATEST(t.create_barrier, EXCLUDED.create_barrier),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    updated_stamp = GREATEST(t.updated_stamp, EXCLUDED.updated_stamp),
    attributes_barrier = GREATEST(t.attributes_barrier, EXCLUDED.attributes_barrier),
    attributes_unclear = GREATEST(t.attributes_unclear, EXCLUDED.attributes_unclear),
    topics_unclear = GREATEST(t.topics_unclear, EXCLUDED.topics_unclear)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.earlier_ends > ''
   OR (EXCLUDED.created_stamp <> t.created_stamp AND LEAST(EXCLUDED.created_stamp, t.created_stamp) > '')
   OR (EXCLUDED.destroyed_stamp <> t.destroyed_stamp AND LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) > '')
   OR EXCLUDED.type_stamp > t.type_stamp
   OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp
   OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp
   OR EXCLUDED.owner_stamp > t.owner_stamp
   OR EXCLUDED.created_stamp > t.created_stamp
   OR EXCLUDED.create_barrier > t.create_barrier
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.updated_stamp > t.updated_stamp
   OR EXCLUDED.attributes_barrier > t.attributes_barrier
   OR EXCLUDED.attributes_unclear > t.attributes_unclear
   OR EXCLUDED.topics_unclear > t.topics_unclear;

-- upsert_groups_by_reads
INSERT INTO groups AS t (
    sdk_app_id, group_id, earlier_ends, type, type_stamp, name, name_caseless, name_stamp, introduction,
    introduction_stamp, notification, notification_stamp, face_url, face_url_stamp, owner, owner_stamp,
    created_by, created_stamp, create_barrier, destroyed_stamp, revival_barrier, alive_stamp, read_stamp,
    gone_stamp, updated_stamp, members_barrier, ranges_stamp, fields_barrier, attributes_barrier,
    attributes_unclear, topics_barrier, topics_unclear, apply_join_option, invite_join_option, mute_all,
    max_member_count, create_secs, silent_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::bytea[],
    $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[], $15::text[], $16::bytea[],
    $17::text[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[],
    $24::bytea[], $25::bytea[], $26::bytea[], $27::bytea[], $28::bytea[], $29::bytea[], $30::bytea[],
    $31::bytea[], $32::bytea[], $33::text[], $34::text[], $35::text[]::boolean[], $36::text[]::bigint[],
    $37::text[]::bigint[], $38::bytea[])
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    earlier_ends = CASE WHEN EXCLUDED.earlier_ends > ''
   OR (EXCLUDED.created_stamp <> t.created_stamp AND LEAST(EXCLUDED.created_stamp, t.created_stamp) > '')
   OR (EXCLUDED.destroyed_stamp <> t.destroyed_stamp AND LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) > '') THEN (
            SELECT string_agg(kept.stamp, '' ORDER BY kept.stamp DESC) FROM (
                SELECT DISTINCT substring(s.ends FROM n FOR 17) AS stamp
                  FROM (SELECT t.earlier_ends || EXCLUDED.earlier_ends
                               || LEAST(EXCLUDED.created_stamp, t.created_stamp)
                               || LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) AS ends) s,
                       generate_series(1, length(s.ends), 17) n
                 WHERE substring(s.ends FROM n FOR 17) NOT IN (
                       GREATEST(EXCLUDED.created_stamp, t.created_stamp),
                       GREATEST(EXCLUDED.destroyed_stamp, t.destroyed_stamp))
                 ORDER BY stamp DESC LIMIT 32) kept)
        ELSE t.earlier_ends END,
    type = CASE WHEN EXCLUDED.type_stamp > t.type_stamp
        THEN EXCLUDED.type ELSE t.type END,
    type_stamp = GREATEST(t.type_stamp, EXCLUDED.type_stamp),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name ELSE t.name END,
    name_caseless = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name_caseless ELSE t.name_caseless END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp
        THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp),
    owner = CASE WHEN EXCLUDED.owner_stamp > t.owner_stamp
        THEN EXCLUDED.owner ELSE t.owner END,
    owner_stamp = GREATEST(t.owner_stamp, EXCLUDED.owner_stamp),
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp
        THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    create_barrier = GREATEST(t.create_barrier, EXCLUDED.create_barrier),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    read_stamp = GREATEST(t.read_stamp, EXCLUDED.read_stamp),
    gone_stamp = GREATEST(t.gone_stamp, EXCLUDED.gone_stamp),
    updated_stamp = GREATEST(t.updated_stamp, EXCLUDED.updated_stamp),
    members_barrier = GREATEST(t.members_barrier, EXCLUDED.members_barrier),
    ranges_stamp = GREATEST(t.ranges_stamp, EXCLUDED.ranges_stamp),
    fields_barrier = GREATEST(t.fields_barrier, EXCLUDED.fields_barrier),
    attributes_barrier = GREATEST(t.attributes_barrier, EXCLUDED.attributes_barrier),
    attributes_unclear = GREATEST(t.attributes_unclear, EXCLUDED.attributes_unclear),
    topics_barrier = GREATEST(t.topics_barrier, EXCLUDED.topics_barrier),
    topics_unclear = GREATEST(t.topics_unclear, EXCLUDED.topics_unclear),
    apply_join_option = CASE WHEN EXCLUDED.silent_stamp > t.silent_stamp
        THEN EXCLUDED.apply_join_option ELSE t.apply_join_option END,
    invite_join_option = CASE WHEN EXCLUDED.silent_stamp > t.silent_stamp
        THEN EXCLUDED.invite_join_option ELSE t.invite_join_option END,
    mute_all = CASE WHEN EXCLUDED.silent_stamp > t.silent_stamp
        THEN EXCLUDED.mute_all ELSE t.mute_all END,
    max_member_count = CASE WHEN EXCLUDED.silent_stamp > t.silent_stamp
        THEN EXCLUDED.max_member_count ELSE t.max_member_count END,
    create_secs = CASE WHEN EXCLUDED.silent_stamp > t.silent_stamp
        THEN EXCLUDED.create_secs ELSE t.create_secs END,
    silent_stamp = GREATEST(t.silent_stamp, EXCLUDED.silent_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.earlier_ends > ''
   OR (EXCLUDED.created_stamp <> t.created_stamp AND LEAST(EXCLUDED.created_stamp, t.created_stamp) > '')
   OR (EXCLUDED.destroyed_stamp <> t.destroyed_stamp AND LEAST(EXCLUDED.destroyed_stamp, t.destroyed_stamp) > '')
   OR EXCLUDED.type_stamp > t.type_stamp
   OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp
   OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp
   OR EXCLUDED.owner_stamp > t.owner_stamp
   OR EXCLUDED.created_stamp > t.created_stamp
   OR EXCLUDED.create_barrier > t.create_barrier
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.read_stamp > t.read_stamp
   OR EXCLUDED.gone_stamp > t.gone_stamp
   OR EXCLUDED.updated_stamp > t.updated_stamp
   OR EXCLUDED.members_barrier > t.members_barrier
   OR EXCLUDED.ranges_stamp > t.ranges_stamp
   OR EXCLUDED.fields_barrier > t.fields_barrier
   OR EXCLUDED.attributes_barrier > t.attributes_barrier
   OR EXCLUDED.attributes_unclear > t.attributes_unclear
   OR EXCLUDED.topics_barrier > t.topics_barrier
   OR EXCLUDED.topics_unclear > t.topics_unclear
   OR EXCLUDED.silent_stamp > t.silent_stamp;

-- upsert_group_list_ranges_by_reads
INSERT INTO group_list_ranges AS t (
    sdk_app_id, group_id, range, list_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::bytea[])
ON CONFLICT (sdk_app_id, group_id, range) DO UPDATE SET
    list_stamp = GREATEST(t.list_stamp, EXCLUDED.list_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.list_stamp > t.list_stamp;

-- upsert_group_members_by_reads
INSERT INTO group_members AS t (
    sdk_app_id, group_id, user_id, join_type, joined_by, join_stamp, exit_type, left_by, leave_stamp,
    revival_barrier, confirmed_stamp, role, role_stamp, name_card, name_card_stamp, missing_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[],
    $9::bytea[], $10::bytea[], $11::bytea[], $12::text[], $13::bytea[], $14::text[], $15::bytea[],
    $16::bytea[])
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET
    join_type = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.join_type ELSE t.join_type END,
    joined_by = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.joined_by ELSE t.joined_by END,
    join_stamp = GREATEST(t.join_stamp, EXCLUDED.join_stamp),
    exit_type = CASE WHEN EXCLUDED.leave_stamp > t.leave_stamp
        THEN EXCLUDED.exit_type ELSE t.exit_type END,
    left_by = CASE WHEN EXCLUDED.leave_stamp > t.leave_stamp
        THEN EXCLUDED.left_by ELSE t.left_by END,
    leave_stamp = GREATEST(t.leave_stamp, EXCLUDED.leave_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    confirmed_stamp = GREATEST(t.confirmed_stamp, EXCLUDED.confirmed_stamp),
    role = CASE WHEN EXCLUDED.role_stamp > t.role_stamp
        THEN EXCLUDED.role ELSE t.role END,
    role_stamp = GREATEST(t.role_stamp, EXCLUDED.role_stamp),
    name_card = CASE WHEN EXCLUDED.name_card_stamp > t.name_card_stamp
        THEN EXCLUDED.name_card ELSE t.name_card END,
    name_card_stamp = GREATEST(t.name_card_stamp, EXCLUDED.name_card_stamp),
    missing_stamp = GREATEST(t.missing_stamp, EXCLUDED.missing_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.join_stamp > t.join_stamp
   OR EXCLUDED.leave_stamp > t.leave_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.confirmed_stamp > t.confirmed_stamp
   OR EXCLUDED.role_stamp > t.role_stamp
   OR EXCLUDED.name_card_stamp > t.name_card_stamp
   OR EXCLUDED.missing_stamp > t.missing_stamp;

-- upsert_group_topics_by_reads
INSERT INTO group_topics AS t (
    sdk_app_id, group_id, topic_id, created_by, created_stamp, alive_stamp, read_stamp, missing_stamp,
    destroyed_stamp, revival_barrier, name, name_stamp, introduction, introduction_stamp, notification,
    notification_stamp, face_url, face_url_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[],
    $9::bytea[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[], $15::text[],
    $16::bytea[], $17::text[], $18::bytea[])
ON CONFLICT (sdk_app_id, group_id, topic_id) DO UPDATE SET
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp
        THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    read_stamp = GREATEST(t.read_stamp, EXCLUDED.read_stamp),
    missing_stamp = GREATEST(t.missing_stamp, EXCLUDED.missing_stamp),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    revival_barrier = GREATEST(t.revival_barrier, EXCLUDED.revival_barrier),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp
        THEN EXCLUDED.name ELSE t.name END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp
        THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.created_stamp > t.created_stamp
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.read_stamp > t.read_stamp
   OR EXCLUDED.missing_stamp > t.missing_stamp
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp
   OR EXCLUDED.revival_barrier > t.revival_barrier
   OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp
   OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp;

-- upsert_groups_of_one_join
INSERT INTO groups AS t (
    sdk_app_id, group_id, type, type_stamp, alive_stamp, updated_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::bytea[])
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    type = CASE WHEN EXCLUDED.type_stamp > t.type_stamp
        THEN EXCLUDED.type ELSE t.type END,
    type_stamp = GREATEST(t.type_stamp, EXCLUDED.type_stamp),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    updated_stamp = GREATEST(t.updated_stamp, EXCLUDED.updated_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.type_stamp > t.type_stamp
   OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.updated_stamp > t.updated_stamp;

-- upsert_group_members_of_one_join
INSERT INTO group_members AS t (
    sdk_app_id, group_id, user_id, join_type, joined_by, join_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET
    join_type = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.join_type ELSE t.join_type END,
    joined_by = CASE WHEN EXCLUDED.join_stamp > t.join_stamp
        THEN EXCLUDED.joined_by ELSE t.joined_by END,
    join_stamp = GREATEST(t.join_stamp, EXCLUDED.join_stamp)
-- A fact that loses everywhere writes nothing.
WHERE EXCLUDED.join_stamp > t.join_stamp;

-- replace_listed
INSERT INTO group_members AS t (
    sdk_app_id, group_id, user_id, is_listed, listed_role, listed_name_card, listed_join_secs,
    mute_until_secs, custom_fields, read_stamp)
SELECT * FROM UNNEST(
    $1::bigint[], $2::text[], $3::text[], $4::text[]::boolean[], $5::text[], $6::text[], $7::text[]::bigint[],
    $8::text[]::bigint[], $9::text[], $10::bytea[])
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET
    is_listed = EXCLUDED.is_listed,
    listed_role = EXCLUDED.listed_role,
    listed_name_card = EXCLUDED.listed_name_card,
    listed_join_secs = EXCLUDED.listed_join_secs,
    mute_until_secs = EXCLUDED.mute_until_secs,
    custom_fields = EXCLUDED.custom_fields,
    read_stamp = EXCLUDED.read_stamp;

-- lines_of_groups
SELECT sdk_app_id, group_id, '', ARRAY[
    encode(earlier_ends, 'hex'), type, encode(type_stamp, 'hex'), name, name_caseless,
    encode(name_stamp, 'hex'), introduction, encode(introduction_stamp, 'hex'), notification,
    encode(notification_stamp, 'hex'), face_url, encode(face_url_stamp, 'hex'), owner,
    encode(owner_stamp, 'hex'), created_by, encode(created_stamp, 'hex'), encode(create_barrier, 'hex'),
    encode(destroyed_stamp, 'hex'), encode(revival_barrier, 'hex'), encode(alive_stamp, 'hex'),
    encode(read_stamp, 'hex'), encode(gone_stamp, 'hex'), encode(updated_stamp, 'hex'),
    encode(members_barrier, 'hex'), encode(ranges_stamp, 'hex'), encode(fields_barrier, 'hex'),
    encode(attributes_barrier, 'hex'), encode(attributes_unclear, 'hex'), encode(topics_barrier, 'hex'),
    encode(topics_unclear, 'hex'), apply_join_option, invite_join_option, mute_all::text,
    max_member_count::text, create_secs::text, encode(silent_stamp, 'hex')]
  FROM groups t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_group_list_ranges
SELECT sdk_app_id, group_id, range, ARRAY[
    encode(list_stamp, 'hex')]
  FROM group_list_ranges t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_group_members
SELECT sdk_app_id, group_id, user_id, ARRAY[
    join_type, joined_by, encode(join_stamp, 'hex'), exit_type, left_by, encode(leave_stamp, 'hex'),
    encode(revival_barrier, 'hex'), encode(confirmed_stamp, 'hex'), role, encode(role_stamp, 'hex'),
    name_card, encode(name_card_stamp, 'hex'), encode(missing_stamp, 'hex'), is_listed::text, listed_role,
    listed_name_card, listed_join_secs::text, mute_until_secs::text, custom_fields, encode(read_stamp, 'hex')]
  FROM group_members t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_group_user_defined_fields
SELECT sdk_app_id, group_id, key, ARRAY[
    value, encode(value_stamp, 'hex')]
  FROM group_user_defined_fields t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_group_attributes
SELECT sdk_app_id, group_id, key, ARRAY[
    value, encode(value_stamp, 'hex')]
  FROM group_attributes t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_group_topics
SELECT sdk_app_id, group_id, topic_id, ARRAY[
    created_by, encode(created_stamp, 'hex'), encode(alive_stamp, 'hex'), encode(read_stamp, 'hex'),
    encode(missing_stamp, 'hex'), encode(destroyed_stamp, 'hex'), encode(revival_barrier, 'hex'), name,
    encode(name_stamp, 'hex'), introduction, encode(introduction_stamp, 'hex'), notification,
    encode(notification_stamp, 'hex'), face_url, encode(face_url_stamp, 'hex')]
  FROM group_topics t
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4);

-- lines_of_groups_by_key
SELECT sdk_app_id, group_id, '', ARRAY[
    encode(earlier_ends, 'hex'), type, encode(type_stamp, 'hex'), name, name_caseless,
    encode(name_stamp, 'hex'), introduction, encode(introduction_stamp, 'hex'), notification,
    encode(notification_stamp, 'hex'), face_url, encode(face_url_stamp, 'hex'), owner,
    encode(owner_stamp, 'hex'), created_by, encode(created_stamp, 'hex'), encode(create_barrier, 'hex'),
    encode(destroyed_stamp, 'hex'), encode(revival_barrier, 'hex'), encode(alive_stamp, 'hex'),
    encode(read_stamp, 'hex'), encode(gone_stamp, 'hex'), encode(updated_stamp, 'hex'),
    encode(members_barrier, 'hex'), encode(ranges_stamp, 'hex'), encode(fields_barrier, 'hex'),
    encode(attributes_barrier, 'hex'), encode(attributes_unclear, 'hex'), encode(topics_barrier, 'hex'),
    encode(topics_unclear, 'hex'), apply_join_option, invite_join_option, mute_all::text,
    max_member_count::text, create_secs::text, encode(silent_stamp, 'hex')]
  FROM UNNEST($1::bigint[], $2::text[]) AS k (app, id)
 CROSS JOIN LATERAL (SELECT * FROM groups x WHERE x.sdk_app_id = k.app AND x.group_id = k.id OFFSET 0) t;
