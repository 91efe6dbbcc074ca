//! Handing out an enrollment token: to standard output, or into a file that only its owner may read.

use std::path::{Path, PathBuf};

use api::Secret;
use serde::Serialize;

use crate::args::TokenOutput;
use crate::exit::Failure;
use crate::files::{self, PrivateFile};
use crate::output::Printer;
use crate::words;

/// Where the token will go; a file is known to be writable.
pub(super) struct Destination {
    file: Option<(PathBuf, PrivateFile)>,
    is_json: bool,
}

#[derive(Serialize)]
struct Handed<'a> {
    id: &'a str,
    name: &'a str,
    expires_unix_s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_file: Option<&'a Path>,
}

impl Destination {
    pub(super) fn prepare(output: &TokenOutput) -> Result<Self, Failure> {
        let path = output.output.as_deref().filter(|path| !files::is_dash(path));
        let file = match path {
            Some(path) => Some((path.to_owned(), PrivateFile::prepare(path)?)),
            None => None,
        };
        Ok(Self { file, is_json: output.json })
    }

    pub(super) fn hand_out(
        self,
        printer: Printer,
        (id, name): (&str, &str),
        jwt: &Secret,
        expires_unix_s: Option<i64>,
    ) -> Result<(), Failure> {
        let again = format!("the router is there; make another token: `exuvia fleet re-enroll {name}`");
        let written = match self.file {
            Some((path, file)) => {
                file.write(jwt.reveal().as_bytes()).map_err(|failure| failure.hint(again))?;
                Some(path)
            }
            None => None,
        };
        let now = words::now_unix_s();
        let ends = expires_unix_s.map_or_else(|| "it is used".to_owned(), |at| words::date(now, at));
        printer.note(&match &written {
            Some(path) => {
                format!("router `{name}` ({id}): enrollment token in `{}`, good until {ends}", path.display())
            }
            None => format!("router `{name}` ({id}): enrollment token good until {ends}"),
        });
        if self.is_json {
            let jwt = written.is_none().then_some(jwt);
            return printer.json(&Handed { id, name, expires_unix_s, jwt, jwt_file: written.as_deref() });
        }
        match written {
            Some(_) => Ok(()),
            None => printer.data(jwt.reveal()),
        }
    }
}
