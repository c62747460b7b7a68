//! The OpenAPI document: what stands around the paths, and the segments that handlers describe themselves with.
//!
//! A new endpoint gets `#[utoipa::path(get, path = "…", params(…), responses((status = 200, …), Refused))]` above its
//! handler and `.routes(routes!(module::handler))` in [`super::routes()`]; then `UPDATE_SNAPSHOTS=1 cargo test openapi`.
//!
//! Words, limits and defaults come from the constants that the handlers check requests with, so that the two cannot
//! part. Knows nothing of the configuration: the document is the same for every service of this version.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, SchemaFormat,
};
use utoipa::{IntoParams, IntoResponses};

use super::errors::Problem;
use super::paging::{CURSOR_BYTES_MAX, Limit};
use super::query::TEXT_BYTES_MAX;
use crate::model::ID_BYTES_MAX;

/// The name of the security scheme.
const BEARER: &str = "bearer";

const DESCRIPTION: &str = "Reads a PostgreSQL mirror of the groups of a Tencent Cloud Chat app.\n\n\
    Ids in paths are percent-encoded: `@TGS#2RIVERB7QK` is `%40TGS%232RIVERB7QK`. Times are RFC 3339 in UTC with \
    milliseconds. Lists come in pages: `next_cursor` of a page is `cursor` of the next one, with all other parameters \
    but `limit` unchanged. A parameter that is not known, or comes twice, is an error. Errors are RFC 9457 problems \
    with a stable `code`. Fields may be added to any object later; one that may be null is always there.\n\n\
    Everything but `/livez` and `/readyz` needs a token, unless the service is set to be read without, from its own \
    machine only. What is durable but still in the spool does not show yet; `spool.depth` of `/v1/stats` tells.";

/// The document without its paths.
pub(super) fn frame() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("One of API_TOKEN; needless where the service is set to be read without."))
        .build();
    let components = ProblemKind::ALL
        .into_iter()
        .fold(ComponentsBuilder::new(), |components, refusal| {
            components.response(refusal.name(), refusal.response())
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

/// Says of every property that may be null that it is there all the same. Views are written so: one that can be left
/// out is never null.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            let nullable = object.properties.iter().filter(|(_, property)| may_be_null(property));
            let nullable =
                nullable.map(|(name, _)| name.clone()).filter(|name| !object.required.contains(name));
            let nullable: Vec<_> = nullable.collect();
            object.required.extend(nullable);
        }
    }
    document
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

/// An answer that is not what was asked for, as the document has it.
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

    fn told(self) -> (&'static str, &'static str, &'static str) {
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
                "The service is read without tokens from its own machine only, and this is another, or a proxy \
                 (`unauthorized`).",
            ),
            Self::NotFound => ("404", "NotFound", "There is no such thing (`not_found`)."),
            Self::MethodNotAllowed => {
                ("405", "MethodNotAllowed", "The API is read with GET (`method_not_allowed`).")
            }
            Self::Gone => {
                ("410", "Gone", "The cursor points into a ledger that is not here any more (`bad_cursor`).")
            }
            Self::TooLarge => (
                "422",
                "TooLarge",
                "More work than one read may make; the text names the maximum (`too_large`).",
            ),
            Self::HeadTooLarge => {
                ("431", "HeadTooLarge", "Path, query and headers have more than 32 KiB; without a body.")
            }
            Self::Internal => ("500", "Internal", "The service's fault; its log has the cause (`internal`)."),
            Self::Unavailable => {
                ("503", "Unavailable", "Not now, as while the database is away; ask again (`unavailable`).")
            }
        }
    }

    fn name(self) -> &'static str {
        self.told().1
    }

    fn response(self) -> Response {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(self.told().2);
        if matches!(self, Self::HeadTooLarge) {
            // Answered before there is a request.
            return response.build();
        }
        let response = response.content("application/problem+json", problem);
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

fn references<const N: usize>(refusals: [ProblemKind; N]) -> BTreeMap<String, RefOr<Response>> {
    refusals
        .into_iter()
        .map(|refusal| {
            let (status, name, _) = refusal.told();
            (status.to_owned(), RefOr::Ref(Ref::from_response_name(name)))
        })
        .collect()
}

/// What authentication, and a fault of the service, can answer on every path that needs a token.
#[derive(Debug)]
pub(super) struct Guarded;

impl IntoResponses for Guarded {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        use ProblemKind::{Forbidden, HeadTooLarge, Internal, MethodNotAllowed, Unauthorized};
        references([Unauthorized, Forbidden, MethodNotAllowed, HeadTooLarge, Internal])
    }
}

/// What every path of the read API can answer instead of what was asked for.
#[derive(Debug)]
pub(super) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Guarded::responses();
        responses.extend(references([ProblemKind::BadRequest, ProblemKind::Unavailable]));
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

/// The parameter `group_id` of a path.
#[derive(Debug)]
pub(super) struct GroupPath;

impl IntoParams for GroupPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path(
            "group_id",
            id(),
            "The group's id as Tencent writes it, percent-encoded; at most 512 bytes.",
        )]
    }
}

/// The parameter `user_id` of a path.
#[derive(Debug)]
pub(super) struct UserPath;

impl IntoParams for UserPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path("user_id", id(), "The user's id as Tencent writes it, percent-encoded; at most 512 bytes.")]
    }
}

/// The parameter `sdk_app_id`, which every path of the read API has.
#[derive(Debug)]
pub(super) struct AppOnly;

impl IntoParams for AppOnly {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![app()]
    }
}

/// A parameter of a path.
pub(super) fn path(name: &str, schema: ObjectBuilder, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// A parameter of the query; none is required.
pub(super) fn query(name: &str, schema: ObjectBuilder, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// A header of the request; none is required.
pub(super) fn header(name: &str, schema: ObjectBuilder, description: &str) -> Parameter {
    ParameterBuilder::from(query(name, schema, description)).parameter_in(ParameterIn::Header).build()
}

/// Any number of `name[KEY]=VALUE`, at most `max`.
pub(super) fn keyed(name: &str, max: usize, description: &str) -> Parameter {
    let value = string().max_length(Some(TEXT_BYTES_MAX)).build();
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(string().max_length(Some(ID_BYTES_MAX)).build()))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value.into()))))
        .max_properties(Some(max));
    ParameterBuilder::from(query(name, object, description))
        .style(Some(ParameterStyle::DeepObject))
        .explode(Some(true))
        .build()
}

/// `limit`, `cursor` and `sdk_app_id`, which every list has.
pub(super) fn paging() -> [Parameter; 3] {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(i64::from(Limit::MAX)))
        .default(Some(Limit::DEFAULT.into()));
    [
        query("limit", limit, "How many items at most."),
        query("cursor", cursor(), "next_cursor of the page before; none: the first page."),
        app(),
    ]
}

/// `sdk_app_id`.
pub(super) fn app() -> Parameter {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1))
        .maximum(Some(i64::MAX));
    query("sdk_app_id", number, "Number of the Tencent Cloud Chat app; none: the configured one.")
}

/// Any text.
pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An id or a key.
pub(super) fn id() -> ObjectBuilder {
    string().min_length(Some(1)).max_length(Some(ID_BYTES_MAX))
}

/// A cursor.
pub(super) fn cursor() -> ObjectBuilder {
    string().min_length(Some(1)).max_length(Some(CURSOR_BYTES_MAX))
}

/// Free text.
pub(super) fn text() -> ObjectBuilder {
    string().min_length(Some(1)).max_length(Some(TEXT_BYTES_MAX))
}

/// A moment.
pub(super) fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// One of a closed list.
pub(super) fn words<T>(words: &[(&str, T)]) -> ObjectBuilder {
    string().enum_values(Some(words.iter().map(|(word, _)| *word)))
}

/// The same, where the first one is what is meant without the parameter.
pub(super) fn words_or_first<T>(list: &[(&str, T)]) -> ObjectBuilder {
    words(list).default(list.first().map(|(word, _)| (*word).into()))
}
