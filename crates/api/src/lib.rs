//! Views and routes of the REST interfaces; the OpenAPI document comes from here.
