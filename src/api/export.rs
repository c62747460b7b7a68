//! Lists in another form than a page of JSON: fewer fields, or the whole list as CSV or NDJSON.
//!
//! A middleware around the handlers, so that every list has it, also one that is added later. A whole list is read page by
//! page through the same handler with the cursor of the page before: the same rights, permits and time limits hold for each
//! page, and the list is as consistent as a walk by hand. A page is read when the client has taken the one before, so an
//! export holds one page in memory and, while its client does not read, no connection to the database.
//!
//! The first page is read before the head is sent, so an error of the request is a problem document. A page that fails later
//! breaks the connection off without the end of the body: a client sees that the file is not whole. HTTP/1.0 could not say
//! so, and is refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chrono::DateTime;
use futures_util::stream::try_unfold;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::access::REQUEST_ID;
use super::auth::Caller;
use super::columns::{ListColumns, Lists};
use super::errors::ApiError;
use super::export_page::{ExportPage, narrowed_page};
use super::form::{FORMATS, ListForm};
use super::in_work::is_stream;
use super::items::Selection;
use super::paging::Limit;
use super::query::{bad_value, pairs, word};
use crate::clock;

/// How many whole lists are sent at once. Each holds one page.
const EXPORTS_MAX: usize = 16;

/// Rows of a page where each costs more: with a count of members, or with its body.
const EXTRA_ROWS: u64 = 100;

/// The longest page of JSON that is read, in bytes: 4 MiB of bodies or texts, each byte escaped, and some room.
const PAGE_JSON_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often a page is tried again that cannot be read just now, after a second each time.
const RETRIES_MAX: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The lists, and the permits for whole ones. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ExportState {
    lists: Arc<Lists>,
    permits: Arc<Semaphore>,
}

impl ExportState {
    pub(super) fn of(lists: Lists) -> Self {
        Self { lists: Arc::new(lists), permits: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}

/// Answers a list in the form and with the fields that the request asks for.
///
/// # Errors
/// `bad_parameter`; `unavailable` where too many whole lists are sent.
pub(super) async fn in_form(
    State(forms): State<ExportState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let path = request.extensions().get::<MatchedPath>();
    let list = path.and_then(|path| forms.lists.at(path.as_str()));
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let Some(list) = list.filter(|_| is_read) else { return Ok(next.run(request).await) };
    let Some(asked) = AskedList::parse(&request, list)? else { return Ok(next.run(request).await) };
    // The head is that of the answer to GET, which is made of the page; the router takes the body away.
    *request.method_mut() = Method::GET;
    if asked.form == ListForm::Json {
        let answer = next.run(request).await;
        return match asked.selection.filter(|_| answer.status() == StatusCode::OK) {
            Some(selection) => narrowed(answer, &selection).await,
            None => Ok(varying(answer)),
        };
    }
    let permit = Arc::clone(&forms.permits).try_acquire_owned().map_err(|_| {
        ApiError::unavailable(format!("{EXPORTS_MAX} whole lists are sent at once already; try again."))
    })?;
    whole(list, asked, request, next, permit).await
}

/// What a request asks for, beside what its handler looks at.
struct AskedList {
    form: ListForm,
    /// None: everything.
    selection: Option<Selection>,
    /// Of the whole list.
    limit: Option<u64>,
    page_rows: u64,
    /// The rest of the query, as it came.
    rest: Vec<String>,
    /// Where it begins.
    start: Vec<String>,
}

impl AskedList {
    /// None where the request is for the handler as it is: a stream of events, or what the handler will refuse.
    fn parse(request: &Request, list: &ListColumns) -> Result<Option<Self>, ApiError> {
        let (mut rest, mut start) = (Vec::new(), Vec::new());
        let (mut fields, mut format, mut limit, mut has_extras) = (None, None, None, false);
        for (name, value, text) in pairs(request.uri().query().unwrap_or_default()) {
            let before = match &*name {
                "fields" => fields.replace(value.into_owned()),
                "format" => format.replace(value.into_owned()),
                "limit" => limit.replace(value.into_owned()),
                "cursor" | "since" => {
                    start.push(text.to_owned());
                    None
                }
                name => {
                    has_extras |= name == "with";
                    rest.push(text.to_owned());
                    None
                }
            };
            if before.is_some() {
                // Twice, which the handler refuses.
                return Ok(None);
            }
        }
        if is_stream(request) {
            return match fields.or(format) {
                Some(_) => Err(ApiError::bad_parameter(
                    "Parameters fields and format are for lists, not for a stream.",
                )),
                None => Ok(None),
            };
        }
        let form = match format {
            Some(text) => word("format", &text, &FORMATS)?,
            None => ListForm::accepted(request.headers()),
        };
        let selection = fields.map(|fields| list.chosen(&fields)).transpose()?.map(Selection::of);
        // That of a page is the handler's.
        let limit = limit.filter(|_| form != ListForm::Json).map(|text| {
            text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| {
                bad_value("limit", &text, "a whole number of at least 1; without it the list is whole")
            })
        });
        let page_rows = if has_extras { EXTRA_ROWS } else { Limit::MAX.into() };
        Ok(Some(Self { form, selection, limit: limit.transpose()?, page_rows, rest, start }))
    }
}

/// The page with fewer fields.
async fn narrowed(answer: Response, selection: &Selection) -> Result<Response, ApiError> {
    let (mut parts, body) = answer.into_parts();
    let page = to_bytes(body, PAGE_JSON_BYTES_MAX)
        .await
        .map_err(|error| ApiError::internal(io::Error::other(error)))?;
    let body = narrowed_page(&page, selection)?;
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(varying(Response::from_parts(parts, Body::from(body))))
}

/// Says that the form depends on the header.
fn varying(mut answer: Response) -> Response {
    answer.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    answer
}

/// The whole list as a file, of which the first page has been read.
async fn whole(
    list: &ListColumns,
    asked: AskedList,
    request: Request,
    next: Next,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    if request.version() < Version::HTTP_11 {
        return Err(ApiError::bad_parameter(
            "A whole list is sent over HTTP/1.1 alone: HTTP/1.0 has no sign for a file that is not whole. A proxy in front needs \
             proxy_http_version 1.1, or what it calls that.",
        ));
    }
    let (parts, _) = request.into_parts();
    let form = asked.form;
    let selection = asked.selection.unwrap_or_else(|| Selection::all(&list.columns));
    let mut walk = Walk {
        name: list.name.clone(),
        parts,
        next,
        form,
        selection,
        rest: asked.rest,
        start: asked.start,
        page_rows: asked.page_rows,
        left: asked.limit,
        is_begun: false,
        is_last: false,
        rows: 0,
        end: "its client left",
        _permit: permit,
    };
    let first = match walk.page().await {
        Ok(bytes) => bytes,
        Err(refused) => {
            walk.end = "refused";
            return Ok(*refused);
        }
    };
    let time = DateTime::from_timestamp_millis(clock::now().get()).unwrap_or_default();
    let name = format!(
        "attachment; filename=\"{}-{}.{}\"",
        list.name,
        time.format("%Y%m%dT%H%M%SZ"),
        form.extension()
    );
    let headers = [
        (header::CONTENT_TYPE, form.media_type()),
        (header::CONTENT_DISPOSITION, &name),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let pages = try_unfold((walk, Some(first)), async |(mut walk, ready)| match ready {
        Some(bytes) => Ok(Some((bytes, (walk, None)))),
        None => Ok::<_, io::Error>(walk.following().await?.map(|bytes| (bytes, (walk, None)))),
    });
    Ok(varying((headers, Body::from_stream(pages)).into_response()))
}

/// A walk through the pages of a list.
struct Walk {
    name: String,
    /// The head of the request, repeated for each page.
    parts: Parts,
    next: Next,
    form: ListForm,
    selection: Selection,
    rest: Vec<String>,
    /// The cursor of the next page, as a part of the query.
    start: Vec<String>,
    page_rows: u64,
    left: Option<u64>,
    is_begun: bool,
    is_last: bool,
    rows: u64,
    /// How it ended, for the log.
    end: &'static str,
    _permit: OwnedSemaphorePermit,
}

impl Walk {
    /// The bytes of the next page that has any; none at the end of the list.
    async fn following(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_last {
            let mut tries = 0;
            let page = loop {
                match self.page().await {
                    Err(refused)
                        if refused.status() == StatusCode::SERVICE_UNAVAILABLE && tries < RETRIES_MAX =>
                    {
                        tries += 1;
                        sleep(RETRY_PAUSE).await;
                    }
                    page => break page,
                }
            };
            match page {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(refused) => {
                    self.end = "broken off";
                    let error = refused.extensions().get::<ApiError>().map(ToString::to_string);
                    let error = error.unwrap_or_else(|| refused.status().to_string());
                    tracing::warn!(list = self.name, rows = self.rows, error, "a whole list breaks off");
                    return Err(io::Error::other("a page of the list cannot be read"));
                }
            }
        }
        self.end = "whole";
        Ok(None)
    }

    /// Reads the next page.
    async fn page(&mut self) -> Result<Bytes, Box<Response>> {
        let request = self.request().map_err(|error| Box::new(error.into_response()))?;
        let answer = self.next.clone().run(request).await;
        if answer.status() != StatusCode::OK {
            return Err(Box::new(answer));
        }
        let json = to_bytes(answer.into_body(), PAGE_JSON_BYTES_MAX).await;
        let json = json.map_err(|error| ApiError::internal(io::Error::other(error)));
        let shown = json.and_then(|json| self.show(&json));
        shown.map(Bytes::from).map_err(|error| Box::new(error.into_response()))
    }

    fn request(&self) -> Result<Request, ApiError> {
        let limit = self.left.map_or(self.page_rows, |left| left.min(self.page_rows));
        let query = self.rest.iter().chain(&self.start).map(String::as_str).collect::<Vec<_>>().join("&");
        let target = format!("{}?{query}&limit={limit}", self.parts.uri.path());
        let mut parts = self.parts.clone();
        parts.uri = target.parse::<Uri>().map_err(ApiError::internal)?;
        Ok(Request::from_parts(parts, Body::empty()))
    }

    /// A page in the form of the export; notes where the list goes on.
    fn show(&mut self, json: &[u8]) -> Result<Vec<u8>, ApiError> {
        let page: ExportPage<'_> = ExportPage::read(json)?;
        let shown = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
        self.rows += shown;
        self.left = self.left.map(|left| left.saturating_sub(shown));
        let next = page.next().filter(|_| self.left != Some(0));
        self.is_last = next.is_none();
        self.start = next.map(|cursor| format!("cursor={cursor}")).into_iter().collect();
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        self.written(&page.items, is_first)
    }

    fn written(&self, items: &[&RawValue], is_first: bool) -> Result<Vec<u8>, ApiError> {
        match self.form {
            ListForm::Csv { mark } => self.selection.table(items, is_first, mark),
            ListForm::Json | ListForm::Ndjson => self.selection.lines(items),
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if self.end == "refused" {
            return;
        }
        let id = self.parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let caller = self.parts.extensions.get::<Caller>();
        let (raw, caller) = (caller.and_then(Caller::raw_shown), caller.map_or("-", |caller| &caller.name));
        tracing::info!(
            request_id = id,
            caller,
            list = self.name,
            rows = self.rows,
            end = self.end,
            raw,
            "a whole list was sent"
        );
    }
}
