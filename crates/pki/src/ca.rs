//! New CAs, for `controller init` and `quickstart`.

use crate::issuer::{Extensions, IssueError, Issuer, Validity, build};
use crate::key::PrivateKey;
use crate::subject::Subject;

/// A self-signed root named `name`, with `key`.
///
/// # Errors
/// [`IssueError`].
pub fn new_root(name: &str, key: PrivateKey, validity: &Validity) -> Result<Issuer, IssueError> {
    let subject = Subject::common_name(name)?;
    let extensions = Extensions::of_ca(&subject.name, None)?;
    let certificate = build(&key, subject.name.clone(), key.public(), &subject, extensions, validity)?;
    issuer(certificate, &[], key)
}

/// An intermediate named `name` below `parent`, with `key`. It may sign leaves and no further CAs.
///
/// # Errors
/// [`IssueError`].
pub fn new_intermediate(
    parent: &Issuer,
    name: &str,
    key: PrivateKey,
    validity: &Validity,
) -> Result<Issuer, IssueError> {
    let subject = Subject::common_name(name)?;
    let extensions = Extensions::of_ca(&subject.name, Some(0))?;
    let certificate = parent.sign(key.public(), &subject, extensions, validity)?;
    let mut above = parent.above_leaf().to_vec();
    above.push(parent.certificate().clone());
    issuer(certificate, &above, key)
}

fn issuer(
    certificate: crate::Certificate,
    above: &[crate::Certificate],
    key: PrivateKey,
) -> Result<Issuer, IssueError> {
    Issuer::new(certificate, above, key).map_err(|error| IssueError::Build { reason: error.to_string() })
}
