//! `GET /openapi.json`, and the files of the page that shows it and lets a person try it, all of them in the binary.
//!
//! The page is one of the console, `/docs`: a few lines that start Swagger UI, whose script and style sheet come from the
//! crate that bundles them. The OpenAPI document is handed in through the state, because it is made from the routes of
//! which this file is a part.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use super::errors::ApiError;
use super::etag::{IfNoneMatch, tagged_bytes};
use super::openapi::{NotFound, OnlyGet};
use super::parameters::path;
use super::state::ApiState;

const START: &str = include_str!("../../assets/docs.js");

/// The files that the page loads, below `/docs/`.
const ASSETS: [&str; 3] = [START_NAME, "swagger-ui.css", "swagger-ui-bundle.js"];
const START_NAME: &str = "docs.js";

/// Swagger UI sets styles by attribute, and its style sheet holds its pictures as `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the document and of the files of its page.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(openapi)).routes(routes!(asset))
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "documents",
    security(()),
    params(IfNoneMatch),
    responses(
        (status = 200, description = "OpenAPI 3.1.", content_type = "application/json", body = Object),
        (status = 304, description = "The caller has the newest form."),
        OnlyGet,
    )
)]
async fn openapi(State(state): State<ApiState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tagged_bytes(&headers, "application/json", state.document.to_string())
}

/// A file that the page loads.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "docs_file",
    tag = "documents",
    security(()),
    params(FileParameter, IfNoneMatch),
    responses(
        (status = 200, description = "A script or a style sheet.", content((String = "text/javascript"), (String = "text/css"))),
        (status = 304, description = "The caller has the newest form."),
        OnlyGet,
        NotFound,
    )
)]
async fn asset(headers: HeaderMap, path: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found("The page of the document has no such file.");
    let Path(file) = path.map_err(|_| unknown())?;
    if !ASSETS.contains(&file.as_str()) {
        return Err(unknown());
    }
    if file == START_NAME {
        return sent(&headers, "text/javascript", START);
    }
    let found = utoipa_swagger_ui::serve(&file, Config::default().into()).ok().flatten();
    let found = found.ok_or_else(unknown)?;
    let kind = if file.ends_with(".css") { "text/css" } else { "text/javascript" };
    sent(&headers, kind, found.bytes.into_owned())
}

/// The parameter `file`, for the OpenAPI document.
struct FileParameter;

impl utoipa::IntoParams for FileParameter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path(
            "file",
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(ASSETS)),
            "Its name.",
        )]
    }
}

fn sent(
    request: &HeaderMap,
    kind: &'static str,
    body: impl AsRef<[u8]> + Into<Body>,
) -> Result<Response, ApiError> {
    let mut response = tagged_bytes(request, kind, body)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
