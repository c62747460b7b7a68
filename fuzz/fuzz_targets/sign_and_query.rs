//! A query string: only the right app with the right signature of a near moment is let in.
#![no_main]

use group_mirror_fuzz::APP;
use group_mirror_fuzz::callback::signature::{Credentials, Gate, Token, verify};
use group_mirror_fuzz::model::SdkAppId;
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_767_225_600;

fuzz_target!(|data: &[u8]| {
    let query: Vec<(String, String)> = form_urlencoded::parse(data).into_owned().collect();
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let credentials = Credentials { app: get("SdkAppid"), sign: get("Sign"), request_time: get("RequestTime") };
    let token = Token::new("mirror-secret-01".to_owned());
    let app = SdkAppId::parse(APP).expect("digits");
    let other = SdkAppId::parse("1400000002").expect("digits");
    let tokens = [
        (app, vec![Token::new("next".to_owned()), token.clone()]),
        (other, vec![Token::new("mirror-secret-02".to_owned())]),
    ];
    let gate = Gate { tokens: tokens.into(), max_skew_secs: 60 };
    if verify(credentials, &gate, NOW) == Ok(app) {
        let (sign, time) = (credentials.sign.expect("signed"), credentials.request_time.expect("timed"));
        assert_eq!(sign.to_lowercase(), token.sign(time));
        assert!(NOW.abs_diff(time.parse().expect("seconds")) <= 60);
        assert_eq!(SdkAppId::parse(credentials.app.expect("an app")), Ok(app));
    }
    // Without tokens nothing but the app counts.
    let open = Gate { tokens: [(app, Vec::new())].into(), ..gate };
    assert_eq!(verify(credentials, &open, NOW).is_ok(), credentials.app.map(SdkAppId::parse) == Some(Ok(app)));
});
