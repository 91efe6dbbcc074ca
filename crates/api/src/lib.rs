//! Views and routes of the REST interfaces; the OpenAPI document comes from here.
//!
//! Start at [`ROUTES`]: one row per operation, which the controller must serve (its router matches on [`Operation`]) and
//! from which [`openapi::document`] is made. The shapes in the rows are the views of [`ziti`] (what OpenZiti's clients
//! know) and [`fabric`], and [`native`] (what OpenZiti has no words for), in the envelope of [`envelope`].
//!
//! The same structs serve both sides: the controller writes them, the fleet commands read them. Nothing here opens a
//! socket or reads a clock.
#![forbid(unsafe_code)]

#[macro_use]
mod schema;

pub mod envelope;
pub mod error;
pub mod fabric;
pub mod filter;
pub mod native;
pub mod openapi;
mod routes;
mod secret;
pub mod ziti;

pub use error::{ApiError, Code};
pub use routes::{
    Access, Answer, CLIENT_BASE, FABRIC_BASE, MANAGEMENT_BASE, Method, NATIVE_BASE, Operation, Parameter, ROUTES,
    Route, SchemaOf, find, route,
};
pub use schema::{Described, Schemas};
pub use secret::Secret;

/// Header that carries the session's token, both ways.
pub const SESSION_HEADER: &str = "zt-session";

/// Largest body of a request, in bytes, as upstream (`openziti/ziti:controller/api/body_limit.go`).
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
