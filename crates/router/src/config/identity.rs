//! The section `identity`: where certificates and keys are, and what each way of saying so permits.
//!
//! Source: `openziti/identity:config.go`, `openziti/identity:address.go`.

use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{Field, Section, quote};
use zeroize::Zeroizing;

/// PEM text from the configuration itself. `Debug` does not show it.
#[derive(Clone)]
pub struct InlinePem(Zeroizing<String>);

impl InlinePem {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InlinePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InlinePem(..)")
    }
}

/// Where one part of the identity is.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// A file. It can be read and, file system permitting, replaced: the only form with which a renewal is possible.
    Path(PathBuf),
    /// In the configuration. It can be read; nothing renewed can be kept there.
    Inline(InlinePem),
    /// A key in a module outside this process. It never leaves the module.
    Engine {
        /// Such as `pkcs11`.
        name: String,
        /// What follows the colon; may hold a PIN, so `Debug` does not show it.
        options: InlinePem,
    },
}

/// Why something renewed cannot be kept where the old one is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWritable {
    /// It is part of the configuration.
    #[error("it is written inside the configuration; put it in a file and name the file's path instead")]
    Inline,
    /// It is in a module.
    #[error("the key is held by the engine `{0}`, where this program cannot store another")]
    Engine(String),
}

impl IdentitySource {
    /// The file that a renewal may replace.
    ///
    /// # Errors
    /// When it is in no file; the error's text tells a person why and what to do.
    pub fn writable_path(&self) -> Result<&Path, NotWritable> {
        match self {
            Self::Path(path) => Ok(path),
            Self::Inline(_) => Err(NotWritable::Inline),
            Self::Engine { name, .. } => Err(NotWritable::Engine(name.clone())),
        }
    }

    /// Can a renewed one take its place?
    pub fn is_renewable(&self) -> bool {
        matches!(self, Self::Path(_))
    }
}

/// A further server certificate. OpenZiti never renews these, and neither do we.
#[derive(Clone, Debug)]
pub struct AlternateServerCert {
    /// Its chain.
    pub server_cert: IdentitySource,
    /// Its key; `identity.key` if there is none.
    pub server_key: Option<IdentitySource>,
}

/// Where all parts of the identity are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdentityPaths {
    /// Client chain, leaf first. The leaf's CN is the router's id.
    pub cert: IdentitySource,
    /// Server chain. OpenZiti's renewal crashes without it, so it is required here.
    pub server_cert: IdentitySource,
    /// Key of `cert`, and of `server_cert` unless `server_key` is given.
    pub key: IdentitySource,
    /// Key of `server_cert`, if it has its own. Unlike in OpenZiti, enrollment uses it too.
    pub server_key: Option<IdentitySource>,
    /// Trust bundle.
    pub ca: IdentitySource,
    /// Further server certificates.
    pub alternates: Vec<AlternateServerCert>,
}

impl IdentityPaths {
    /// The first part that cannot be renewed where it is, with its key in the configuration and the reason. `ca` is not asked: no renewal
    /// changes it.
    pub fn obstacle(&self) -> Option<(&'static str, NotWritable)> {
        let parts = [
            ("identity.cert", Some(&self.cert)),
            ("identity.server_cert", Some(&self.server_cert)),
            ("identity.key", Some(&self.key)),
            ("identity.server_key", self.server_key.as_ref()),
        ];
        parts.into_iter().find_map(|(name, source)| Some((name, source?.writable_path().err()?)))
    }
}

/// May a value name an engine?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Certificates,
    Key,
}

pub(super) fn read(root: &Section<'_>) -> Option<IdentityPaths> {
    let section = root.required_section(
        "identity",
        "name the router's certificate files; `docs/operating/configuration.md` has an example",
    )?;
    let needed = |name, hint: &str, holds| section.required(name, hint).and_then(|field| source(&field, holds));
    let cert = needed("cert", "name the file of the client certificate chain", Holds::Certificates);
    let server_cert = needed("server_cert", "name the file of the server certificate chain", Holds::Certificates);
    let key = needed("key", "name the file of the private key", Holds::Key);
    let ca = needed("ca", "name the file of the trusted CA certificates", Holds::Certificates);
    let server_key_field = section.field("server_key");
    let server_key = server_key_field.as_ref().map(|field| source(field, Holds::Key));
    let alternates = section.sections("alt_server_certs").into_iter().filter_map(|alternate| {
        let cert = alternate.required("server_cert", "name the file of the server certificate chain");
        let server_key = alternate.field("server_key").and_then(|field| source(&field, Holds::Key));
        Some(AlternateServerCert { server_cert: source(&cert?, Holds::Certificates)?, server_key })
    });
    let alternates = alternates.collect();
    Some(IdentityPaths {
        cert: cert?,
        server_cert: server_cert?,
        key: key?,
        // A server key that is there but unreadable is an error, never "no server key".
        server_key: match server_key {
            None => None,
            Some(source) => Some(source?),
        },
        ca: ca?,
        alternates,
    })
}

/// Reads one value as OpenZiti does: as a URL.
fn source(field: &Field<'_>, holds: Holds) -> Option<IdentitySource> {
    let text = field.text()?;
    let pem = text.strip_prefix("pem:").or_else(|| text.trim_start().starts_with("-----BEGIN").then_some(text));
    if let Some(pem) = pem {
        field.warn(
            "this part of the identity is written inside the configuration, so the router cannot renew it",
            Some("put it in a file and name the file's path"),
        );
        return Some(IdentitySource::Inline(InlinePem(Zeroizing::new(pem.to_owned()))));
    }
    if let Some(rest) = text.strip_prefix("file:") {
        return file_url(field, rest);
    }
    match scheme(text) {
        Scheme::None => bare_path(field, text),
        Scheme::Bad => {
            field.error(
                "a path whose first part holds a colon is taken for something else than a path",
                Some("begin it with `./` or `/`"),
            );
            None
        }
        Scheme::Named(name, _) if holds == Holds::Certificates => {
            field.error(
                format!("{} is no path, and only keys may be in an engine", quote(name)),
                Some("name a file, beginning with `./` or `/`"),
            );
            None
        }
        Scheme::Named(name @ ("pkcs11" | "parsec"), options) => {
            field.warn(
                format!("keys in an engine such as `{name}` cannot be used by this program yet"),
                Some("name the file of a private key"),
            );
            let options = InlinePem(Zeroizing::new(options.to_owned()));
            Some(IdentitySource::Engine { name: name.to_owned(), options })
        }
        Scheme::Named(name, _) => {
            field.error(
                format!("{} is neither a path nor a key engine that is known", quote(name)),
                Some("begin a path with `./` or `/`"),
            );
            None
        }
    }
}

enum Scheme<'t> {
    None,
    Bad,
    Named(&'t str, &'t str),
}

fn scheme(text: &str) -> Scheme<'_> {
    let first = text.split('/').next().unwrap_or(text);
    let Some((name, _)) = first.split_once(':') else { return Scheme::None };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let options = text.get(name.len() + 1..).unwrap_or("");
    if is_name { Scheme::Named(name, options) } else { Scheme::Bad }
}

/// `file:` and what follows it. OpenZiti loads these forms but cannot renew them; here the path they mean is used for both.
fn file_url(field: &Field<'_>, rest: &str) -> Option<IdentitySource> {
    let path = match rest.strip_prefix("//") {
        Some(after) => {
            let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            if path.is_empty() {
                field.error("the address names a host and no path", Some("write the path alone"));
                return None;
            }
            if !host.is_empty() {
                field.warn(
                    format!(
                        "in `file://…` the first part, {}, is a host, so this means the file {}",
                        quote(host),
                        quote(path)
                    ),
                    Some("write the path alone, without `file://`"),
                );
            }
            path
        }
        None if rest.starts_with('/') => rest,
        None => {
            field.error("`file:` needs an absolute path", Some("write the path alone, without `file:`"));
            return None;
        }
    };
    decoded(field, path)
}

fn bare_path(field: &Field<'_>, text: &str) -> Option<IdentitySource> {
    if text.contains(['%', '?', '#']) {
        field.warn(
            "OpenZiti reads this path as a URL: `%` begins a code, and `?` or `#` end the path",
            Some("rename the file so that its path holds none of these"),
        );
    }
    decoded(field, text)
}

/// The path of a URL: up to `?` or `#`, with `%xx` decoded.
fn decoded(field: &Field<'_>, text: &str) -> Option<IdentitySource> {
    let path = text.split(['?', '#']).next().unwrap_or(text);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, next)) = rest.split_first() {
        rest = next;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let code = next.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(decoded) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            field.error("`%` must be followed by two hexadecimal digits", Some("write `%25` for a percent sign"));
            return None;
        };
        bytes.push(decoded);
        rest = next.get(2..).unwrap_or(&[]);
    }
    if bytes.contains(&0) {
        field.error("a path cannot hold a zero character", None);
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(path) if !path.is_empty() => Some(IdentitySource::Path(PathBuf::from(path))),
        Ok(_) => {
            field.error("the path is empty", None);
            None
        }
        Err(_) => {
            field.error("the path is not UTF-8 after decoding", None);
            None
        }
    }
}
