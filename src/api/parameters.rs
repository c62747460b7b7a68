//! Parameters of paths, queries and headers, as the OpenAPI document describes them.
//!
//! Handlers compose their parameters from these, with the constants that they check requests with. Each type that stands
//! in `params(…)` of a handler is a list of parameters and nothing else.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, KnownFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Required, SchemaFormat};

use super::form::FORMATS;
use super::paging::{CURSOR_BYTES_MAX, Limit};
use super::query::TEXT_BYTES_MAX;
use crate::model::ID_BYTES_MAX;

/// The parameter `group_id` of a path.
#[derive(Debug)]
pub(super) struct GroupPath;

impl IntoParams for GroupPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path(
            "group_id",
            id(),
            "The group's id as Tencent writes it, at most 512 bytes. A client that builds paths itself percent-encodes it; \
             the page of this document does so by itself.",
        )]
    }
}

/// The parameter `user_id` of a path.
#[derive(Debug)]
pub(super) struct UserPath;

impl IntoParams for UserPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path(
            "user_id",
            id(),
            "The user's id as Tencent writes it, at most 512 bytes. A client that builds paths itself percent-encodes it; the \
             page of this document does so by itself.",
        )]
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

/// A parameter that may be repeated, at most `max` times.
pub(super) fn repeated(name: &str, item: ObjectBuilder, max: usize, description: &str) -> Parameter {
    let list = ArrayBuilder::new().items(item).max_items(Some(max));
    ParameterBuilder::from(query(name, ObjectBuilder::new(), description)).schema(Some(list)).build()
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
        query("cursor", cursor(), "next_cursor of the page before; without it: the first page."),
        app(),
    ]
}

/// What every list has beside its own parameters.
pub(super) fn of_lists() -> [Parameter; 2] {
    [
        query(
            "fields",
            string(),
            "Names of what an item shows, separated by commas, in their order; without it: everything.",
        ),
        query(
            "format",
            words(&FORMATS),
            "As `Accept`, for a link: `csv` and `ndjson` are the whole list as a file, in which `limit` bounds the whole.",
        ),
    ]
}

/// What every read has beside its own parameters.
pub(super) fn of_all() -> Parameter {
    query(
        "at_least",
        string(),
        "A cursor of the feed: the read waits up to 2 s until the mirror has got there, else 503.",
    )
}

/// `sdk_app_id`.
pub(super) fn app() -> Parameter {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1))
        .maximum(Some(i64::MAX));
    query(
        "sdk_app_id",
        number,
        "Number of the Tencent Cloud Chat app; without it: that of the token, else the first configured one.",
    )
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

/// A time.
pub(super) fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// One of a closed list.
pub(super) fn words<T>(words: &[(&str, T)]) -> ObjectBuilder {
    string().enum_values(Some(words.iter().map(|(word, _)| *word)))
}

/// The same, where the first one is the default.
pub(super) fn words_or_first<T>(list: &[(&str, T)]) -> ObjectBuilder {
    words(list).default(list.first().map(|(word, _)| (*word).into()))
}
