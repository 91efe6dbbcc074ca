//! `cargo xtask conformance`: OpenZiti's published Go libraries against our programs, where they can be had.
//!
//! The module `conformance/` names them as ordinary dependencies. Where the module proxy refuses them nothing can be run; that is said, and
//! is not a failure. Everything else that goes wrong is. With `GOWORK` set, the modules of that workspace are taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};

/// OpenZiti's modules.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Modules {
    /// They can be had; the tests are in this folder.
    Here(PathBuf),
    /// A proxy refuses one of them, with these words.
    Refused(String),
}

const MODULE: &str = "conformance";

/// Can the modules be had?
///
/// # Errors
/// When that cannot be found out, or they cannot be had for another reason than a refusal.
pub(crate) fn modules() -> anyhow::Result<Modules> {
    let folder = std::path::absolute(MODULE)?;
    if std::env::var_os("GOWORK").is_some_and(|work| work != "off" && !work.is_empty()) {
        return Ok(Modules::Here(folder));
    }
    // Sums are those of whoever runs this, checked by Go's own database: the tree is left as it is.
    let copy = target().join(MODULE);
    copy_sources(&folder, &copy)?;
    let downloaded = go(&copy, &["mod", "download"])?;
    if downloaded.status.success() {
        return Ok(Modules::Here(copy));
    }
    let said = String::from_utf8_lossy(&downloaded.stderr).into_owned();
    match refusal_in(&said) {
        Some(line) => Ok(Modules::Refused(line)),
        None => bail!("the Go modules cannot be fetched:\n{said}"),
    }
}

/// Runs the tests against this program.
///
/// # Errors
/// When they fail.
pub(crate) fn test(folder: &Path) -> anyhow::Result<()> {
    let exuvia = std::path::absolute(target().join("release/exuvia"))?;
    let is_workspace = folder.ends_with(MODULE) && folder == std::path::absolute(MODULE)?;
    let mut command = Command::new("go");
    command.args(["test", "-count=1"]);
    if !is_workspace {
        command.arg("-mod=mod");
    }
    let status = command.arg("./...").current_dir(folder).env("EXUVIA_BIN", exuvia).status().context("start `go`")?;
    if !status.success() {
        bail!("OpenZiti's libraries and our programs do not understand one another: {status}");
    }
    Ok(())
}

/// The line of what `go` said in which a proxy refuses a module, if one does.
fn refusal_in(said: &str) -> Option<String> {
    let is_refusal = |line: &&str| {
        ["403 Forbidden", "410 Gone", "404 Not Found"].iter().any(|word| line.contains(word))
            && line.contains("github.com/openziti/")
    };
    said.lines().find(is_refusal).map(|line| line.trim().to_owned())
}

fn go(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("go");
    command.args(arguments).current_dir(folder);
    command.output().context("start `go`\nhint: conformance needs Go 1.26 or later")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

fn copy_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot clear `{}`", to.display()))?;
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy `{}`", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_module_of_openziti_is_a_reason_not_to_run() {
        let refused = "go: downloading x\ngo: github.com/openziti/identity@v1.0.140: reading \
                       https://proxy.golang.org/github.com/openziti/identity/@v/v1.0.140.mod: 403 Forbidden\n\tserver response: no";
        assert!(refusal_in(refused).is_some_and(|line| line.contains("identity")));
        for other in [
            "go: github.com/openziti/identity@v1.0.140: Get \"https://proxy.golang.org\": dial tcp: connection refused",
            "go: example.org/else@v1.0.0: reading https://proxy.golang.org/example.org/else/@v/v1.0.0.mod: 403 Forbidden",
            "conformance: undefined: channel.NewChannel",
        ] {
            assert_eq!(refusal_in(other), None, "{other}");
        }
    }
}
