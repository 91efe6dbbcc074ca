//! What a view looks like in OpenAPI, derived from the same declaration as the struct.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Secret;

/// A type that the OpenAPI document can describe.
pub trait Described {
    /// The schema, or a reference to it after entering it into `schemas`.
    fn schema(schemas: &mut Schemas) -> Value;

    /// Must a value of this type be there?
    fn is_required() -> bool {
        true
    }

    /// Is this a value that is left out of the JSON?
    fn is_absent(&self) -> bool {
        false
    }
}

/// The named schemas of a document, gathered while its routes are written.
#[derive(Debug, Default)]
pub struct Schemas(BTreeMap<&'static str, Value>);

impl Schemas {
    /// A reference to the schema `name`, made by `make` if it is not there yet.
    pub fn named(&mut self, name: &'static str, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.0.contains_key(name) {
            // Entered before it is made, so that a view which holds itself ends.
            self.0.insert(name, Value::Null);
            let made = make(self);
            self.0.insert(name, made);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// All of them, by name.
    pub fn into_value(self) -> Value {
        Value::Object(self.0.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
    }
}

/// One field of a view: wire name, documentation, schema, is it required.
pub(crate) type FieldSchema = (String, String, Value, bool);

pub(crate) fn object(doc: &[&str], fields: Vec<FieldSchema>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, doc, schema, is_required) in fields {
        if is_required {
            required.push(Value::String(name.clone()));
        }
        // OpenAPI 3.0 ignores the neighbours of `$ref`, so a described reference is wrapped.
        let described = match schema {
            Value::Object(map) if !map.contains_key("$ref") => {
                let mut map = map;
                map.insert("description".to_owned(), Value::String(doc));
                Value::Object(map)
            }
            reference => json!({ "allOf": [reference], "description": doc }),
        };
        properties.insert(name, described);
    }
    let mut schema = json!({ "type": "object", "description": text(doc), "properties": properties });
    if let (false, Value::Object(map)) = (required.is_empty(), &mut schema) {
        map.insert("required".to_owned(), Value::Array(required));
    }
    schema
}

/// Doc lines as one paragraph.
pub(crate) fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The name that serde gives to a field under `rename_all = case`.
pub(crate) fn wire_name(case: &str, field: &str) -> String {
    if case != "camelCase" {
        return field.to_owned();
    }
    let mut name = String::with_capacity(field.len());
    let mut upper = false;
    for c in field.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                name.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    name
}

/// Declares views: a struct that serde reads and writes, and its schema, from one text.
macro_rules! views {
    ($case:literal: $(
        $(#[doc = $doc:literal])+
        $name:ident {
            $( $(#[doc = $field_doc:literal])+ $field:ident $(as $wire:literal)? : $type:ty, )*
        }
    )*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = $case)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])+
                #[serde(skip_serializing_if = "crate::schema::Described::is_absent")]
                $(#[serde(rename = $wire)])?
                pub $field: $type,
            )*
        }

        impl $crate::schema::Described for $name {
            fn schema(schemas: &mut $crate::schema::Schemas) -> serde_json::Value {
                schemas.named(stringify!($name), |schemas| {
                    let _ = &schemas;
                    $crate::schema::object(&[$($doc),+], vec![$((
                        {
                            #[allow(unused_mut, unused_assignments)]
                            let mut name = $crate::schema::wire_name($case, stringify!($field));
                            $( name = $wire.to_owned(); )?
                            name
                        },
                        $crate::schema::text(&[$($field_doc),+]),
                        <$type as $crate::schema::Described>::schema(schemas),
                        <$type as $crate::schema::Described>::is_required(),
                    )),*])
                })
            }
        }
    )*};
}

/// Declares an enum that travels as one of a few snake_case words.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident { $( $(#[doc = $variant_doc:literal])+ $variant:ident = $word:literal, )* }
    )*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $variant_doc])+ #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// Every word, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word that travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::schema::Described for $name {
            fn schema(schemas: &mut $crate::schema::Schemas) -> serde_json::Value {
                schemas.named(stringify!($name), |_| {
                    let words: &[(&str, &[&str])] = &[$(($word, &[$($variant_doc),+])),*];
                    $crate::schema::word_list(&[$($doc),+], words)
                })
            }
        }
    )*};
}

pub(crate) fn word_list(doc: &[&str], words: &[(&str, &[&str])]) -> Value {
    let meanings = words.iter().map(|(word, doc)| format!("\n- `{word}`: {}", text(doc))).collect::<String>();
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    json!({ "type": "string", "enum": names, "description": format!("{}\n{meanings}", text(doc)) })
}

macro_rules! plain {
    ($($type:ty => $schema:tt),* $(,)?) => {$(
        impl Described for $type {
            fn schema(_: &mut Schemas) -> Value {
                json!($schema)
            }
        }
    )*};
}

plain! {
    String => { "type": "string" },
    bool => { "type": "boolean" },
    u16 => { "type": "integer", "minimum": 0, "maximum": 65535 },
    u64 => { "type": "integer", "format": "int64", "minimum": 0 },
    i64 => { "type": "integer", "format": "int64" },
    Secret => { "type": "string", "format": "password" },
    Value => {},
}

impl<T: Described> Described for Option<T> {
    fn schema(schemas: &mut Schemas) -> Value {
        T::schema(schemas)
    }

    fn is_required() -> bool {
        false
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema(schemas: &mut Schemas) -> Value {
        json!({ "type": "array", "items": T::schema(schemas) })
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema(schemas: &mut Schemas) -> Value {
        json!({ "type": "object", "additionalProperties": T::schema(schemas) })
    }
}

/// A field that upstream writes as `null` when there is nothing, instead of leaving it out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Nullable<T>(pub Option<T>);

impl<T> Default for Nullable<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Described> Described for Nullable<T> {
    fn schema(schemas: &mut Schemas) -> Value {
        match T::schema(schemas) {
            Value::Object(map) if !map.contains_key("$ref") => {
                let mut map = map;
                map.insert("nullable".to_owned(), Value::Bool(true));
                Value::Object(map)
            }
            reference => json!({ "allOf": [reference], "nullable": true }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wire_name;

    mod probe {
        #![allow(unreachable_pub, reason = "the macro makes public structs")]
        views! { "camelCase":
            /// A view.
            Probe {
                /// One.
                unverified_cert_pem: String,
                /// Two.
                links as "_links": bool,
            }
        }
    }

    #[test]
    fn wire_names_follow_serde() {
        let json = serde_json::to_value(probe::Probe { unverified_cert_pem: "x".to_owned(), links: true }).unwrap();
        assert_eq!(json, serde_json::json!({ "unverifiedCertPem": "x", "_links": true }));
        assert_eq!(wire_name("camelCase", "unverified_cert_pem"), "unverifiedCertPem");
    }
}
