//! The OpenAPI document: its frame, and the error answers that handlers describe themselves with.
//!
//! A new endpoint gets `#[utoipa::path(get, path = "…", params(…), responses((status = 200, …), Refused))]` above its
//! handler and `.routes(routes!(module::handler))` in [`super::routes()`]; then `UPDATE_SNAPSHOTS=1 cargo test openapi`.
//!
//! Words, limits and defaults (see `parameters`) come from the constants that the handlers check requests with, so the
//! document cannot differ from the checks. It does not depend on the configuration: it is the same for every service of
//! this version.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Header, HeaderBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder,
    OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
};

use super::columns::Lists;
use super::errors::Problem;
use super::parameters::{of_all, of_lists, string};

/// The header of the request id.
const REQUEST_ID: &str = "X-Request-Id";

/// Properties that may be left out as well as null.
const OPTIONAL_AND_NULLABLE: [&str; 3] = ["member_count", "verified_at", "members_verified_at"];

/// The name of the security scheme.
const BEARER: &str = "bearer";

const DESCRIPTION: &str = "Reads a PostgreSQL mirror of the groups of a Tencent Cloud Chat app.\n\n\
    Ids in paths are percent-encoded: `@TGS#2RIVERB7QK` is `%40TGS%232RIVERB7QK`; a client that is made from this \
    document, and its page, encode them by themselves. Times are RFC 3339 in UTC with \
    milliseconds. Lists come in pages: `next_cursor` of a page is `cursor` of the next one, with all other parameters \
    but `limit` unchanged. A parameter that is not known, or comes twice, is an error. Errors are RFC 9457 problems \
    with a stable `code`. Fields may be added to any object later; one that may be null is always present.\n\n\
    Every answer has the header `X-Request-Id`, and a problem repeats it as `request_id`; the log has it too. An id that \
    the request sends in that header is kept, if it has 1 to 128 letters, digits or `-_.:/+=@`.\n\n\
    Everything but health and this document needs a token, unless the service is set to be read without one, from its \
    own machine only. A token may be limited to one app; only one with `+raw` reads raw bodies and client addresses. A callback that is still in the spool is durable but not visible yet; `spool.depth` of `/v1/stats` \
    counts them.";

/// The document without paths.
pub(super) fn frame() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("One of API_TOKEN; not needed where the service is set to be read without."))
        .build();
    let components = ProblemKind::ALL
        .into_iter()
        .fold(ComponentsBuilder::new(), |components, problem| {
            components.response(problem.name(), problem.response())
        })
        .schema_from::<Problem<'_>>()
        .security_scheme(BEARER, SecurityScheme::Http(bearer));
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("group-mirror")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(license.build())),
        )
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new(BEARER, Vec::<String>::new())]))
        .build()
}

/// Adds what holds for all paths: the request id of every answer, and that a property that may be null is present; for all
/// reads and for all lists the parameters and forms that they share.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let lists = Lists::of(&document);
    for (path, item) in &mut document.paths.paths {
        let Some(operation) = item.get.as_mut().filter(|_| path.starts_with("/v1/")) else { continue };
        let of_lists = lists.at(path).map(|_| of_lists());
        operation
            .parameters
            .get_or_insert_default()
            .extend(of_lists.into_iter().flatten().chain([of_all()]).map(RefOr::T));
        if let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200")
            && lists.at(path).is_some()
        {
            for kind in ["text/csv", "application/x-ndjson"] {
                let text = ContentBuilder::new().schema(Some(string())).build();
                answer.content.insert(kind.to_owned(), RefOr::T(text));
            }
        }
    }
    let answers = document.paths.paths.values_mut().filter_map(|item| item.get.as_mut());
    let answers = answers.flat_map(|operation| operation.responses.responses.values_mut());
    for answer in answers {
        if let RefOr::T(answer) = answer {
            answer.headers.insert(REQUEST_ID.to_owned(), RefOr::T(request_id_header()));
        }
    }
    require_nullable(&mut document);
    document
}

fn request_id_header() -> Header {
    HeaderBuilder::new()
        .schema(Some(string()))
        .description(Some("The id of the request, as the log has it."))
        .build()
}

/// Views leave a property out only where it cannot be null, so every other one is required. A few have both states:
/// `member_count` is left out unless it is asked for and null where it is not known, the times of verification are left out
/// as of a moment and null where nothing was verified.
fn require_nullable(document: &mut OpenApi) {
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            let nullable = object.properties.iter().filter(|(_, property)| may_be_null(property));
            let nullable = nullable.map(|(name, _)| name.clone()).filter(|name| {
                !object.required.contains(name) && !OPTIONAL_AND_NULLABLE.contains(&name.as_str())
            });
            let nullable: Vec<_> = nullable.collect();
            object.required.extend(nullable);
        }
    }
}

fn may_be_null(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => match &object.schema_type {
            SchemaType::Type(one) => *one == Type::Null,
            SchemaType::Array(several) => several.contains(&Type::Null),
            SchemaType::AnyValue => false,
        },
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter().any(may_be_null),
        _ => false,
    }
}

/// The kinds of error answers of the document.
#[derive(Debug, Clone, Copy)]
enum ProblemKind {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Gone,
    TooLarge,
    HeadTooLarge,
    Internal,
    Unavailable,
}

impl ProblemKind {
    const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Gone,
        Self::TooLarge,
        Self::HeadTooLarge,
        Self::Internal,
        Self::Unavailable,
    ];

    /// Status, name of the component, description.
    fn described(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::BadRequest => (
                "400",
                "BadRequest",
                "A parameter that is not known or cannot be used (`bad_parameter`), or a cursor of another list \
                 (`bad_cursor`).",
            ),
            Self::Unauthorized => ("401", "Unauthorized", "No token, or a wrong one (`unauthorized`)."),
            Self::Forbidden => (
                "403",
                "Forbidden",
                "The token has no right to this (`forbidden`); or the service is read without tokens, from its own machine \
                 only, and the request came from another, through a proxy or from a page of another site (`unauthorized`).",
            ),
            Self::NotFound => (
                "404",
                "NotFound",
                "The path names nothing that is known, or the token is for another app (`not_found`).",
            ),
            Self::MethodNotAllowed => {
                ("405", "MethodNotAllowed", "The API is read with GET (`method_not_allowed`).")
            }
            Self::Gone => (
                "410",
                "Gone",
                "The cursor belongs to a ledger that has been replaced (`bad_cursor`), or what is asked for was pruned (`pruned`).",
            ),
            Self::TooLarge => (
                "422",
                "TooLarge",
                "The read needs more work than one read may make; the text names the maximum (`too_large`).",
            ),
            Self::HeadTooLarge => (
                "431",
                "HeadTooLarge",
                "Path, query and headers have more than 32 KiB; the answer has no body and no `X-Request-Id`.",
            ),
            Self::Internal => {
                ("500", "Internal", "A fault of the service; its log has the cause (`internal`).")
            }
            Self::Unavailable => (
                "503",
                "Unavailable",
                "The read cannot be served at the moment, as while the database does not answer; try again (`unavailable`).",
            ),
        }
    }

    fn name(self) -> &'static str {
        self.described().1
    }

    fn response(self) -> Response {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(self.described().2);
        if matches!(self, Self::HeadTooLarge) {
            // The server answers before a request reaches any layer.
            return response.build();
        }
        let response =
            response.content("application/problem+json", problem).header(REQUEST_ID, request_id_header());
        let header = |schema: ObjectBuilder, text| {
            HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
        };
        match self {
            Self::Unauthorized => {
                response.header("WWW-Authenticate", header(string(), "How to authenticate."))
            }
            Self::Unavailable => {
                let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
                response.header("Retry-After", header(seconds, "After how many seconds to ask again."))
            }
            _ => response,
        }
        .build()
    }
}

fn references<const N: usize>(problems: [ProblemKind; N]) -> BTreeMap<String, RefOr<Response>> {
    problems
        .into_iter()
        .map(|problem| {
            let (status, name, _) = problem.described();
            (status.to_owned(), RefOr::Ref(Ref::from_response_name(name)))
        })
        .collect()
}

/// The error answers of every path that needs a token: those of authentication, and a fault of the service.
#[derive(Debug)]
pub(super) struct Guarded;

impl IntoResponses for Guarded {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        use ProblemKind::{Forbidden, HeadTooLarge, Internal, MethodNotAllowed, Unauthorized};
        references([Unauthorized, Forbidden, MethodNotAllowed, HeadTooLarge, Internal])
    }
}

/// The error answers of every path of the read API.
#[derive(Debug)]
pub(super) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Guarded::responses();
        // The token may be for another app than the one that is named.
        responses.extend(references([
            ProblemKind::BadRequest,
            ProblemKind::NotFound,
            ProblemKind::Unavailable,
        ]));
        responses
    }
}

/// 404, beside [`Refused`] or [`Guarded`].
#[derive(Debug)]
pub(super) struct NotFound;

impl IntoResponses for NotFound {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references([ProblemKind::NotFound])
    }
}

/// 410, beside [`Refused`].
#[derive(Debug)]
pub(super) struct Gone;

impl IntoResponses for Gone {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references([ProblemKind::Gone])
    }
}

/// 422, beside [`Refused`].
#[derive(Debug)]
pub(super) struct TooLarge;

impl IntoResponses for TooLarge {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references([ProblemKind::TooLarge])
    }
}

/// 405 and 431, for paths that need no token.
#[derive(Debug)]
pub(super) struct OnlyGet;

impl IntoResponses for OnlyGet {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references([ProblemKind::MethodNotAllowed, ProblemKind::HeadTooLarge])
    }
}
