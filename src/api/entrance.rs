//! Who may come in: the middleware that finds the caller of a request to the read API or to a page, and refuses the others.
//!
//! It stands around the routers, so it covers unknown paths and methods as well. A caller has a bearer token, or the session
//! of a browser; where the service is read without tokens, it is on this machine. A session counts only in a request that no
//! page of another site has sent: the cookie is `SameSite=Strict`, and what the browser says of the sender is checked too.
//!
//! The read API answers with a problem document, a page with the way to the login. A link on another site, such as in a
//! ticket, reaches a page without the cookie, because it is strict; a page that loads itself again is then of this site.

use std::future::ready;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use subtle::ConstantTimeEq as _;

use super::auth::{ApiAuth, Caller, HOW_TO_AUTHENTICATE, TokenDigest};
use super::errors::ApiError;
use super::local::{self, only};
use super::session::{Sessions, other_site};

/// The path of the login page, below the prefix.
pub const LOGIN_PATH: &str = "/login";

/// Loads itself again at once, as a page of this site.
const AGAIN: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0\">\
    <title>group-mirror</title><p>…</p></html>";

/// Passes an authenticated request to the read API on.
///
/// # Errors
/// 401 or 403.
pub(super) async fn require(
    State(sessions): State<Sessions>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = authenticate(&sessions, &request, false)?;
    Ok(pass(&sessions, caller, request, next).await)
}

/// Passes an authenticated request to a page on; without a session to the login.
pub(super) async fn require_page(State(sessions): State<Sessions>, request: Request, next: Next) -> Response {
    match authenticate(&sessions, &request, true) {
        Ok(caller) => pass(&sessions, caller, request, next).await,
        Err(error) if !error.is_unauthenticated() => error.into_response(),
        Err(_) if is_link_of_another_site(request.headers()) => again(),
        Err(_) => to_login(&sessions, &request),
    }
}

/// The caller of a request to a page that is open to all; `None` where none is known.
pub(crate) fn caller_if_any(sessions: &Sessions, request: &Request) -> Option<Caller> {
    authenticate(sessions, request, true).ok()
}

async fn pass(sessions: &Sessions, caller: Caller, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(caller.clone());
    // A bearer token has no session, and nor has a reader on this machine where no token is needed.
    let is_by_session = sessions.are_needed() && !request.headers().contains_key(header::AUTHORIZATION);
    let cookies: Vec<HeaderValue> = request.headers().get_all(header::COOKIE).iter().cloned().collect();
    let mut response = next.run(request).await;
    if is_by_session && is_stream(&response) {
        let cookies = cookies.into_iter().map(|value| (header::COOKIE, value)).collect();
        response = while_session(sessions.clone(), cookies, response);
    }
    response.extensions_mut().insert(caller);
    response
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

/// The stream until its session ends or is logged out: looked at before each part is sent, and a stream sends a part every
/// few seconds.
fn while_session(sessions: Sessions, cookies: HeaderMap, response: Response) -> Response {
    response.map(|body| {
        let parts = body.into_data_stream();
        Body::from_stream(parts.take_while(move |_| ready(sessions.caller_of(&cookies).is_some())))
    })
}

fn authenticate(sessions: &Sessions, request: &Request, is_page: bool) -> Result<Caller, ApiError> {
    let headers = request.headers();
    if matches!(sessions.auth(), ApiAuth::None) {
        local::check(request)?;
        return Ok(Caller::local());
    }
    if headers.contains_key(header::AUTHORIZATION) {
        let token = bearer(headers).ok_or_else(|| ApiError::unauthorized(HOW_TO_AUTHENTICATE))?;
        let digest = TokenDigest::of(token);
        let caller = sessions.auth().caller_with(|known| known.ct_eq(&digest));
        return caller.ok_or_else(|| ApiError::unauthorized("This token is not known here."));
    }
    let caller = sessions.caller_of(headers).ok_or_else(|| ApiError::unauthorized(HOW_TO_AUTHENTICATE))?;
    match other_site(headers) {
        Some(reason) if !(is_page && is_link_of_same_site(request)) => Err(ApiError::forbidden(format!(
            "The session of a browser is for pages of this service alone, and {reason}."
        ))),
        _ => Ok(caller),
    }
}

/// The token of the request; `None` where there is none, or more than one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Whether a browser says that it follows a link from a site of this kind.
fn is_link(headers: &HeaderMap, site: &str) -> bool {
    let is = |name: &'static str, value: &str| only(headers, &HeaderName::from_static(name)) == Some(value);
    is("sec-fetch-site", site) && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// A link on another host of the same site brings the strict cookie along. A page shows its reader something, and the page
/// that holds the link nothing.
fn is_link_of_same_site(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::GET && is_link(headers, "same-site") && !headers.contains_key(header::ORIGIN)
}

fn is_link_of_another_site(headers: &HeaderMap) -> bool {
    is_link(headers, "cross-site")
}

fn again() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    (headers, AGAIN).into_response()
}

/// 303 to the login, which leads back to the page where that is read with GET.
fn to_login(sessions: &Sessions, request: &Request) -> Response {
    let wanted = request.uri().path_and_query().filter(|_| request.method() == Method::GET);
    let prefix = sessions.prefix().as_str();
    let back = wanted.map(|wanted| {
        let back =
            form_urlencoded::byte_serialize(format!("{prefix}{wanted}").as_bytes()).collect::<String>();
        format!("?next={back}")
    });
    let target = format!("{prefix}{LOGIN_PATH}{}", back.unwrap_or_default());
    let mut response = StatusCode::SEE_OTHER.into_response();
    let target = HeaderValue::try_from(target).unwrap_or(HeaderValue::from_static(LOGIN_PATH));
    response.headers_mut().insert(header::LOCATION, target);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where a login leads, from `next` of its address: a path of this service, or its first page. A path that a browser would
/// take for another host is none.
#[must_use]
pub fn after_login(sessions: &Sessions, next: Option<&str>) -> String {
    let prefix = sessions.prefix();
    let is_ours = |path: &&str| {
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let rest = prefix.strip(path.split('?').next().unwrap_or_default());
        path.starts_with('/')
            && is_plain
            && rest.is_some_and(|rest| !rest.starts_with("//") && !rest.starts_with(LOGIN_PATH))
    };
    next.filter(is_ours).map_or_else(|| format!("{}/", prefix.as_str()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{any, get};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::api::auth::ApiToken;
    use crate::api::prefix::PathPrefix;

    async fn answer(sessions: &Sessions, method: &str, headers: &[(&str, &str)]) -> Response {
        let page = any(async |caller: Caller| caller.name.to_string());
        let pages = Router::new().route("/page", page);
        let pages = pages.layer(from_fn_with_state(sessions.clone(), require_page));
        let request = Request::builder().method(method).uri("/page?a=1");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        pages.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_page_is_shown_to_a_session_and_leads_others_to_the_login() {
        let auth = ApiAuth::Tokens(vec![ApiToken::new(None, "token")]);
        let sessions = Sessions::new(auth.into(), PathPrefix::parse("/mirror").unwrap(), false);
        let cookie = sessions.log_in(&HeaderMap::new(), "token").await.unwrap();
        let cookie = ("cookie", cookie.to_str().unwrap().split(';').next().unwrap());
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let from = |site| [link.as_slice(), &[("sec-fetch-site", site)]].concat();
        let with = |headers: &[(&'static str, &'static str)]| [headers, &[cookie]].concat();
        let status = async |method, headers: &[(&str, &str)]| {
            answer(&sessions, method, headers).await.status().as_u16()
        };
        assert_eq!(status("GET", &with(&[])).await, 200);
        assert_eq!(status("GET", &[("authorization", "Bearer token")]).await, 200);
        assert_eq!(status("GET", &with(&from("same-site"))).await, 200, "a link on another host of the site");
        assert_eq!(status("POST", &with(&from("same-site"))).await, 403);
        assert_eq!(status("GET", &with(&[("sec-fetch-site", "same-site")])).await, 403, "no link");
        assert_eq!(status("GET", &with(&from("cross-site"))).await, 403);
        assert_eq!(status("GET", &with(&[("origin", "http://evil.example")])).await, 403);
        for (method, location) in
            [("GET", "/mirror/login?next=%2Fmirror%2Fpage%3Fa%3D1"), ("POST", "/mirror/login")]
        {
            let led = answer(&sessions, method, &[]).await;
            assert_eq!((led.status().as_u16(), led.headers()["location"].to_str().unwrap()), (303, location));
        }
        let again = answer(&sessions, "GET", &from("cross-site")).await;
        assert_eq!(again.status(), 200, "a strict cookie is not sent with a link of another site");
        let text = axum::body::to_bytes(again.into_body(), 10_000).await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains("http-equiv=\"refresh\""));
        let open = Sessions::new(ApiAuth::None.into(), PathPrefix::default(), false);
        assert_eq!(answer(&open, "GET", &[("host", "localhost")]).await.status(), 200);
        assert_eq!(answer(&open, "GET", &[("host", "mirror.example")]).await.status(), 403);
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_session_that_it_was_opened_with() {
        let auth = ApiAuth::Tokens(vec![ApiToken::new(None, "token")]);
        let sessions = Sessions::new(auth.into(), PathPrefix::default(), false);
        let cookie = sessions.log_in(&HeaderMap::new(), "token").await.unwrap();
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let stream = get(async || {
            let parts = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(":\n\n"));
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts))
        });
        let pages = Router::new().route("/events", stream);
        let pages = pages.layer(from_fn_with_state(sessions.clone(), require));
        let open = async |name: &str, value: &str| {
            let request = Request::builder().uri("/events").header(name, value).body(Body::empty()).unwrap();
            pages.clone().oneshot(request).await.unwrap().into_body()
        };
        let (mut by_cookie, mut by_token) =
            (open("cookie", &cookie).await, open("authorization", "Bearer token").await);
        assert!(by_cookie.frame().await.is_some_and(|frame| frame.is_ok()));
        sessions
            .log_out(&HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(&cookie).unwrap())]))
            .unwrap();
        assert!(by_cookie.frame().await.is_none(), "it was logged out");
        assert!(by_token.frame().await.is_some_and(|frame| frame.is_ok()));
    }

    #[test]
    fn a_login_leads_to_a_path_of_this_service_and_nowhere_else() {
        let sessions = |prefix: &str| {
            let auth = ApiAuth::Tokens(vec![ApiToken::new(None, "token")]);
            Sessions::new(auth.into(), PathPrefix::parse(prefix).unwrap(), false)
        };
        let (root, below) = (sessions("/"), sessions("/mirror"));
        for path in ["/", "/groups?name=%E5%A4%9C&type=Public", "/users/a%2Fb"] {
            assert_eq!(after_login(&root, Some(path)), path);
            assert_eq!(after_login(&below, Some(&format!("/mirror{path}"))), format!("/mirror{path}"));
            assert_eq!(after_login(&below, Some(path)), "/mirror/");
        }
        for bad in [
            "",
            "groups",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/a b",
            "/a\r\nSet-Cookie: x",
            "/login?next=/login",
        ] {
            assert_eq!(after_login(&root, Some(bad)), "/", "{bad}");
        }
        assert_eq!(after_login(&root, None), "/");
        assert_eq!(after_login(&below, Some("/mirror//evil.example")), "/mirror/");
    }
}
