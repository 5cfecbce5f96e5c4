//! What the `data` of replies and pushes is, so that the schema of the protocol can be written from
//! the types that are serialised.
//!
//! With the feature `schema`, each type describes itself. Only the tests turn it on.

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// The `data` of a reply or a push.
#[cfg(feature = "schema")]
pub trait Data: JsonSchema {}

/// The `data` of a reply or a push.
#[cfg(not(feature = "schema"))]
pub trait Data {}

#[cfg(feature = "schema")]
impl<D: JsonSchema> Data for D {}

#[cfg(not(feature = "schema"))]
impl<D> Data for D {}

/// A type of `data`, as an entry of a list.
#[derive(Clone, Copy)]
pub struct DataType {
    /// The schema of the type. Named types are added to the generator's definitions.
    #[cfg(feature = "schema")]
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl DataType {
    pub(crate) const fn of<D: Data>() -> Self {
        DataType {
            #[cfg(feature = "schema")]
            schema: SchemaGenerator::subschema_for::<D>,
        }
    }
}
