//! Holds the answers of a running controller against OpenAPI descriptions, with schemathesis (`cargo xtask api-conformance`).
//!
//! Always against our own (`openapi/exuvia.json`), with every check of the tool but one; and, where `OPENZITI_DESCRIPTIONS` names
//! a folder with OpenZiti's `management.yml`, `client.yml` and `fabric.yml`, against those for everything that we serve.
//!
//! `positive_data_acceptance` is left out: whatever the description allows, it says, must be accepted. Descriptions cannot say
//! what a filter, a certificate request or a token must look like.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rig::{Controller, ControllerSettings, Exuvia, RouterSettings};

/// Names the folder with OpenZiti's descriptions.
const DESCRIPTIONS: &str = "OPENZITI_DESCRIPTIONS";
/// Requests of each kind for one operation; `--long` makes it ten times as many.
const EXAMPLES: u32 = 15;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_long = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--long"] => true,
        _ => bail!("only `--long` is understood"),
    };
    let has_tool = Command::new("schemathesis").arg("--version").output();
    has_tool.context("schemathesis is not there\nhint: `pip install schemathesis`, and have it in PATH")?;
    let examples = if is_long { 10 * EXAMPLES } else { EXAMPLES };

    let program = std::env::current_exe()?.with_file_name("../exuvia");
    ensure!(program.exists(), "there is no program `{}`: build it first", program.display());
    let exuvia = Exuvia::new(std::fs::canonicalize(program)?);
    let home = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir())?;
    let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default())?;
    // Something to show: one router that is connected, one that waits for its enrollment.
    let router = controller.enrolled("edge-1", &home.path().join("identity"))?;
    let running = router.online()?;
    controller.created("edge-2", &home.path().join("waiting"), &RouterSettings::default())?;
    let run = Run { controller: &controller, bundle: home.path().join("ctl/pki/bundle.pem"), examples };

    let mut broken = Vec::new();
    for (name, description, base) in descriptions()? {
        let began = Instant::now();
        let holds = run.against(&description, base)?;
        eprintln!("== {name}: {} in {} s", if holds { "holds" } else { "BROKEN" }, began.elapsed().as_secs());
        if !holds {
            broken.push(name);
        }
    }
    running.kill();
    controller.stop()?;
    ensure!(broken.is_empty(), "the controller does not keep {}", broken.join(", "));
    Ok(())
}

/// Name, file, and below which path it is served.
fn descriptions() -> Result<Vec<(&'static str, PathBuf, &'static str)>> {
    let mut all = vec![("our own description", workspace().join("openapi/exuvia.json"), "")];
    let Some(folder) = std::env::var_os(DESCRIPTIONS).map(PathBuf::from) else {
        eprintln!("{DESCRIPTIONS} is not set: OpenZiti's published descriptions are not tried");
        return Ok(all);
    };
    for (name, file, base) in [
        ("OpenZiti's management description", "management.yml", api_base::MANAGEMENT),
        ("OpenZiti's client description", "client.yml", api_base::CLIENT),
        ("OpenZiti's fabric description", "fabric.yml", api_base::FABRIC),
    ] {
        let path = folder.join(file);
        ensure!(path.exists(), "there is no `{}`", path.display());
        all.push((name, path, base));
    }
    Ok(all)
}

/// The base paths that the descriptions name.
mod api_base {
    pub(super) const MANAGEMENT: &str = "/edge/management/v1";
    pub(super) const CLIENT: &str = "/edge/client/v1";
    pub(super) const FABRIC: &str = "/fabric/v1";
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Run<'a> {
    controller: &'a Controller,
    bundle: PathBuf,
    examples: u32,
}

impl Run<'_> {
    /// Does the controller keep this description?
    fn against(&self, description: &Path, base: &str) -> Result<bool> {
        let url = format!("https://localhost:{}{base}", self.controller.api_port());
        let is_ours = base.is_empty();
        let mut command = Command::new("schemathesis");
        command.arg("run").arg(description).args(["--url", &url, "--seed", "1", "--continue-on-failure"]);
        command.arg("--tls-verify").arg(&self.bundle);
        let session = self.controller.session()?;
        command.args(["--header", &format!("zt-session: {session}")]);
        command.args(["--max-examples", &self.examples.to_string(), "--checks", "all"]);
        command.args(["--exclude-checks", if is_ours { OWN_EXCLUDED } else { PUBLISHED_EXCLUDED }]);
        // What would end the session that all other requests need, or lock its owner out; and the stream that never ends.
        command.args(["--exclude-path-regex", "/(authenticate|current-api-session|events)$"]);
        let conformance = workspace().join("xtask/conformance");
        command
            .env("PYTHONPATH", &conformance)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", "published");
        command.env("EXUVIA_OPENAPI", workspace().join("openapi/exuvia.json"));
        // It keeps a history of examples where it runs.
        let scratch = tempfile::tempdir()?;
        command.current_dir(scratch.path());
        let holds = command.status().context("run schemathesis")?.success();
        // Without a session every answer is a refusal, and nothing was tried.
        ensure!(self.controller.session_is_good(&session)?, "the session ended while the tool ran");
        Ok(holds)
    }
}

const OWN_EXCLUDED: &str = "positive_data_acceptance";

/// We accept more than the published descriptions allow, such as a session's token as bearer, and fields that they do not have.
const PUBLISHED_EXCLUDED: &str =
    "positive_data_acceptance,negative_data_rejection,ignored_auth,missing_required_header,unsupported_method";
