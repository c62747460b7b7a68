//! What an item of each list has: the columns of its table, out of the OpenAPI document of the same routes.
//!
//! A list is a path with a `limit` whose answer has `items`. Its columns are the properties of an item in the order in which they are
//! written; an object that is always there (the group and the member of a membership) gives one for each of its own, by the
//! name `group.name`. So a new list, or a new field of one, has its columns without a second table that could differ.

use std::collections::BTreeMap;

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayItems, Schema};
use utoipa::openapi::{OpenApi, RefOr};

use super::errors::ApiError;

/// The most fields that one request names.
const FIELDS_MAX: usize = 100;

/// The lists by the pattern of their path.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<String, ListColumns>);

/// A list: the name of a file of it, and what it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListColumns {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// A property of an item, or one of an object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) property: String,
    pub(super) inner: Option<String>,
}

impl Column {
    /// As `fields` and a header row name it.
    pub(super) fn name(&self) -> String {
        match &self.inner {
            Some(inner) => format!("{}.{inner}", self.property),
            None => self.property.clone(),
        }
    }
}

impl Lists {
    pub(super) fn of(document: &OpenApi) -> Self {
        let lists = document.paths.paths.iter().filter_map(|(path, item)| {
            let operation = item.get.as_ref().filter(|operation| is_in_pages(operation))?;
            let RefOr::T(answer) = operation.responses.responses.get("200")? else { return None };
            let RefOr::T(content) = answer.content.get("application/json")? else { return None };
            let page = properties(document, content.schema.as_ref()?)?;
            let (_, items) = page.into_iter().find(|(name, _)| *name == "items")?;
            let RefOr::T(Schema::Array(items)) = items else { return None };
            let ArrayItems::RefOrSchema(item) = &items.items else { return None };
            let name = operation.operation_id.clone()?;
            Some((path.clone(), ListColumns { name, columns: columns(document, item)? }))
        });
        Self(lists.collect())
    }

    /// The list at the pattern of a path; none for a single thing.
    pub(super) fn at(&self, path: &str) -> Option<&ListColumns> {
        self.0.get(path)
    }
}

impl ListColumns {
    /// The columns that `fields` names, in its order. The name of an object stands for all that it has.
    ///
    /// # Errors
    /// `bad_parameter`, with what there is.
    pub(super) fn chosen(&self, fields: &str) -> Result<Vec<Column>, ApiError> {
        let mut chosen: Vec<Column> = Vec::new();
        for name in fields.split(',').map(str::trim).take(FIELDS_MAX + 1) {
            let named = self.columns.iter().filter(|column| column.name() == name || column.property == name);
            let before = chosen.len();
            chosen.extend(named.cloned());
            let is_twice = chosen[before..].iter().any(|column| chosen[..before].contains(column));
            if chosen.len() == before || is_twice {
                return Err(self.unknown(name, chosen.len() > before));
            }
        }
        if chosen.len() > FIELDS_MAX {
            return Err(ApiError::bad_parameter(format!(
                "Parameter fields names more than {FIELDS_MAX} fields."
            )));
        }
        Ok(chosen)
    }

    fn unknown(&self, name: &str, is_twice: bool) -> ApiError {
        let what = if is_twice { "names twice" } else { "names, which no item has," };
        let name: String = name.chars().take(80).collect();
        let names: Vec<String> = self.columns.iter().map(Column::name).collect();
        ApiError::bad_parameter(format!("Parameter fields {what} {name:?}; there are {}.", names.join(", ")))
    }
}

/// Whether its answer is a page of a list, and not everything at once.
fn is_in_pages(operation: &Operation) -> bool {
    let parameters = operation.parameters.iter().flatten();
    let names = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter.name.as_str()),
        RefOr::Ref(_) => None,
    });
    names.into_iter().any(|name| name == "limit")
}

type Properties<'a> = Vec<(&'a str, &'a RefOr<Schema>)>;

/// The properties of an object, which may stand among the components.
fn properties<'a>(document: &'a OpenApi, schema: &'a RefOr<Schema>) -> Option<Properties<'a>> {
    let schema = match schema {
        RefOr::T(schema) => schema,
        RefOr::Ref(named) => {
            let name = named.ref_location.rsplit('/').next()?;
            let RefOr::T(schema) = document.components.as_ref()?.schemas.get(name)? else { return None };
            schema
        }
    };
    let Schema::Object(object) = schema else { return None };
    Some(object.properties.iter().map(|(name, schema)| (name.as_str(), schema)).collect())
}

fn columns(document: &OpenApi, item: &RefOr<Schema>) -> Option<Vec<Column>> {
    let of_property = |(name, schema): (&str, &RefOr<Schema>)| {
        // Only an object that is always there is a reference by itself; one that may be null is a choice.
        let inner = properties(document, schema).filter(|_| matches!(schema, RefOr::Ref(_)));
        let column =
            |inner: Option<&str>| Column { property: name.to_owned(), inner: inner.map(str::to_owned) };
        match inner {
            Some(inner) if !inner.is_empty() => {
                inner.into_iter().map(|(inner, _)| column(Some(inner))).collect()
            }
            _ => vec![column(None)],
        }
    };
    Some(properties(document, item)?.into_iter().flat_map(of_property).collect())
}
