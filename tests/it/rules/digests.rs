//! The form of the digest is settled for good: digests are stored, and a repeat is known by them. A change of any line of
//! this table would make every repeat of an older callback a new one.

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::model::{Millis, SdkAppId};

use crate::support::APP;
use crate::support::histories::BASE_MS;

fn callback(body: &[u8], request: Option<&str>, received_ms: i64) -> Callback {
    let received = Received {
        client_ip: Some("203.0.113.9".to_owned()),
        platform: Some("Web".to_owned()),
        request_id: request.map(str::to_owned),
        ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(received_ms), body.to_vec())
    };
    match decode(received) {
        Decoded::Kept(callback) => *callback,
        Decoded::OutOfScope(unkept) => panic!("{}", unkept.label),
    }
}

fn hex(callback: &Callback) -> String {
    callback.digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bodies with a request id each, and their digests.
const GOLDEN: [(&[u8], &str, &str); 8] = [
    (
        br#"{"CallbackCommand":"Group.CallbackAfterGroupDestroyed","GroupId":"g","EventTime":1700000000000}"#,
        "r1",
        "23a12cde9077081acfe22f6c1f66d461",
    ),
    (
        br#"{"CallbackCommand":"Group.CallbackAfterGroupDestroyed","GroupId":"g"}"#,
        "r1",
        "c61cf26583cfdf1f6f393df8d5249e21",
    ),
    (
        br#"{"CallbackCommand":"Group.CallbackAfterGroupDestroyed","GroupId":"g"}"#,
        "",
        "711de2fc569c9187c1d225c6abd36dd9",
    ),
    (
        b"{\"CallbackCommand\":\"Group.CallbackAfterGroupInfoChanged\",\"GroupId\":\"g\",\"Name\":\"\xe6\xbc\xa2 \\ud83d\\ude00 \\u0000\\/\\\"\",\"EventTime\":1700000000000}",
        "",
        "3f43cede3ae785b76b97b9bf0820361b",
    ),
    (
        b"{\"CallbackCommand\":\"Group.CallbackAfterGroupInfoChanged\",\"GroupId\":\"g\",\"Name\":\"cut \xe5\x95\",\"EventTime\":1700000000000}",
        "",
        "c1d906fa0503f7307881ae2c985d0cc3",
    ),
    (
        br#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":[{"Member_Account":"u"}],"X":123456789012345678901234567890,"Y":1.50e3,"Z":[null,true,{}],"EventTime":1700000000000}"#,
        "",
        "4b355ddaca897d11c51da2d26eb7ae4f",
    ),
    (b"no json", "r1", "a72fe282db727144a8cdbe547d631d2e"),
    (b"[1, 2]", "", "c9a571136cff4f5f72c23308c0bcc4c3"),
];

#[test]
fn fixed_bodies_have_fixed_digests() {
    for (number, (body, request, digest)) in GOLDEN.into_iter().enumerate() {
        let request = Some(request).filter(|text| !text.is_empty());
        assert_eq!(hex(&callback(body, request, BASE_MS)), digest, "{number}: {}", body.escape_ascii());
    }
}

#[test]
fn what_says_the_same_has_one_digest_and_what_does_not_has_two() {
    let command = r#""CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"g""#;
    let digest = |rest: &[u8], request: Option<&str>, received: i64| {
        let body = [b"{", command.as_bytes(), b",", rest, b"}"].concat();
        hex(&callback(&body, request, BASE_MS + received))
    };
    let timed = |rest: &str| digest(format!("{rest},\"EventTime\":{BASE_MS}").as_bytes(), None, 0);
    let whole = timed(r#""Name":"n","Introduction":"i""#);
    assert_eq!(whole, timed(r#" "Introduction" : "\u0069", "Name":"n" "#), "written in another way");
    assert_eq!(
        whole,
        timed(r#""Name":"before","Introduction":"i","Name":"n""#),
        "of equal keys the later counts"
    );
    let quoted = format!("\"EventTime\":\"{BASE_MS}\",\"Name\":\"n\",\"Introduction\":\"i\"");
    assert_eq!(whole, digest(quoted.as_bytes(), Some("another request"), 30_000), "a retry, much later");
    for other in [
        r#""Name":"n","Introduction":"i","X":1"#,
        r#""Name":"n","Introduction":"I""#,
        r#""Name":"ni","Introduction":"""#,
        r#""Name":"n""#,
    ] {
        assert_ne!(whole, timed(other), "{other}");
    }
    // Numbers that a machine cannot hold stay apart.
    assert_ne!(timed(r#""X":18446744073709551616"#), timed(r#""X":18446744073709551617"#));
    assert_ne!(timed(r#""X":1e400"#), timed(r#""X":1e401"#));
    // Without a time that is believed only the request tells.
    let request = |request| digest(br#""Name":"n""#, request, 0);
    assert_eq!(request(Some("r1")), digest(br#""Name":"n""#, Some("r1"), 9_000));
    assert_ne!(request(Some("r1")), request(Some("r2")));
    assert_ne!(request(Some("r1")), request(None));
    let ahead = |time: &str| digest(format!("\"Name\":\"n\",\"EventTime\":{time}").as_bytes(), None, 0);
    assert_ne!(
        ahead("9999999999999"),
        ahead("9999999999998"),
        "two times that are not believed are two events"
    );
    // Alike after the repair, and still two.
    let cut = |bytes: &[u8]| {
        let name = [b"\"Name\":\"", bytes, b"\",\"EventTime\":1700000000000"].concat();
        digest(&name, None, 0)
    };
    assert_ne!(cut(b"\xe5"), cut(b"\xe6"));
    assert_ne!(cut(b"\xe5"), cut("\u{fffd}".as_bytes()));
}
