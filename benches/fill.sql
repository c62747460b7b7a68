-- A mirror of GROUPS groups as a read finds it: 70 % active, 25 % destroyed, 5 % unseen; types and fields of every
-- frequency; three members each, and one community with MEMBERS members.
INSERT INTO groups (sdk_app_id, group_id, type, type_stamp, name, name_caseless, name_stamp, owner, owner_stamp, created_by, created_stamp,
                    create_barrier, destroyed_stamp, revival_barrier, updated_stamp)
SELECT 1400000001, '@TGS#' || upper(substr(md5(n::text), 1, 12)),
       CASE WHEN n % 10000 = 0 THEN 'Community' WHEN n % 1000 = 0 THEN 'AVChatRoom' WHEN n % 20 = 0 THEN 'Meeting'
            WHEN n % 3 = 0 THEN 'Public' ELSE 'Work' END, CASE WHEN seen THEN s ELSE '' END,
       CASE WHEN seen THEN 'River walkers ' || to_hex(n * 2654435761) END,
       CASE WHEN seen THEN 'river walkers ' || to_hex(n * 2654435761) END, CASE WHEN seen THEN s ELSE '' END,
       'owner-' || n % 100003, CASE WHEN seen THEN s ELSE '' END,
       'owner-' || n % 100003, CASE WHEN seen THEN s ELSE '' END, '',
       CASE WHEN n % 4 = 1 THEN d ELSE '' END, CASE WHEN n % 4 = 1 THEN r ELSE '' END, GREATEST(s, CASE WHEN n % 4 = 1 THEN d ELSE '' END)
  FROM (SELECT n, n % 20 <> 3 AS seen, int8send(1767225600000 + n * 997) || '\x010102030405060708' AS s,
               int8send(1767225600000 + n * 997 + 60000) || '\x090102030405060708' AS d,
               int8send(1767225600000 + n * 997 + 70000) || '\x000000000000000000' AS r
          FROM generate_series(1::bigint, GROUPS) n) g;
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp)
SELECT 1400000001, '@TGS#' || upper(substr(md5(n::text), 1, 12)), u,
       int8send(1767225600000 + n * 997) || '\x010102030405060708'
  FROM generate_series(1::bigint, GROUPS) n,
       LATERAL (VALUES ('owner-' || n % 100003), ('user-' || n % 250007), ('guest-' || n % 500009)) m (u);
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp)
SELECT 1400000001, '@TGS#' || upper(substr(md5('2'), 1, 12)), 'fan-' || lpad(n::text, 9, '0'),
       int8send(1767225600000 + n) || '\x010102030405060708'
  FROM generate_series(1::bigint, MEMBERS) n;
INSERT INTO group_user_defined_fields (sdk_app_id, group_id, key, value, value_stamp)
SELECT 1400000001, '@TGS#' || upper(substr(md5(n::text), 1, 12)), k, v,
       int8send(1767225600000 + n * 997) || '\x010102030405060708'
  FROM generate_series(1::bigint, GROUPS) n,
       LATERAL (VALUES ('region', CASE n % 2 WHEN 0 THEN 'north' ELSE 'south' END), ('case', 'case-' || n)) f (k, v);
ANALYZE;
