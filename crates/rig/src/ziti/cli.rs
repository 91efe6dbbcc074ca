//! OpenZiti's command line, logged in to a controller: theirs or ours.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::Ziti;
use crate::PATIENCE;
use crate::program::Ran;

/// A login, renewed when it has ended.
#[derive(Debug)]
pub struct ZitiCli {
    ziti: Ziti,
    home: PathBuf,
    at: String,
    user: String,
    password: String,
    is_logged_in: Mutex<bool>,
}

impl ZitiCli {
    /// For the controller whose REST interfaces are at `localhost:PORT`. Settings and tokens are in this folder, which must be nobody else's.
    pub fn new(ziti: &Ziti, home: &Path, api_port: u16, user: &str, password: &str) -> Self {
        Self {
            ziti: ziti.clone(),
            home: home.to_owned(),
            at: format!("localhost:{api_port}"),
            user: user.to_owned(),
            password: password.to_owned(),
            is_logged_in: Mutex::new(false),
        }
    }

    /// `ziti edge login`, trusting whatever the controller presents.
    ///
    /// # Errors
    /// When the command cannot be run; what came of it is in the answer.
    pub fn login(&self) -> Result<Ran> {
        std::fs::create_dir_all(&self.home)?;
        let args = ["edge", "login", &self.at, "-u", &self.user, "-p", &self.password, "-y"];
        self.ziti.run(&self.home, args)
    }

    /// `ziti ARGS`, logged in. A session that has ended is begun anew, once.
    ///
    /// # Errors
    /// When there is no login, or the command cannot be run; what came of it is in the answer.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        let mut is_logged_in = self.is_logged_in.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            if !*is_logged_in {
                self.login()?.ok().context("ziti edge login")?;
                *is_logged_in = true;
            }
            let ran = self.ziti.run(&self.home, args)?;
            let said = format!("{}{}", ran.stdout, ran.stderr).to_lowercase();
            if ran.code == Some(0) || !(said.contains("unauthorized") || said.contains("login")) {
                return Ok(ran);
            }
            *is_logged_in = false;
        }
        self.ziti.run(&self.home, args)
    }

    /// The same, where the answer is JSON.
    ///
    /// # Errors
    /// As [`ZitiCli::run`], and when it is refused.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        self.run(args)?.ok()?.json()
    }

    /// `ziti edge create edge-router NAME -o FILE`; gives the file with the JWT.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_edge_router(&self, name: &str) -> Result<PathBuf> {
        self.create("edge-router", name)
    }

    /// `ziti edge create transit-router NAME -o FILE`; gives the file with the JWT.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_transit_router(&self, name: &str) -> Result<PathBuf> {
        self.create("transit-router", name)
    }

    fn create(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let file = self.home.join(format!("{name}.jwt"));
        let path = file.to_string_lossy().into_owned();
        self.run(&["edge", "create", kind, name, "-o", &path])?
            .ok()
            .with_context(|| format!("create {kind} `{name}`"))?;
        Ok(file)
    }

    /// What `ziti edge list KIND -j` has under this name.
    ///
    /// # Errors
    /// When it is refused, or there is none.
    pub fn listed(&self, kind: &str, name: &str) -> Result<Value> {
        let answer = self.json(&["edge", "list", kind, &format!("name=\"{name}\""), "-j"])?;
        let found = answer.get("data").and_then(Value::as_array).and_then(|found| found.first());
        found.cloned().ok_or_else(|| anyhow!("no {kind} is called `{name}`: {answer}"))
    }

    /// The edge router of this name, as listed.
    ///
    /// # Errors
    /// As [`ZitiCli::listed`].
    pub fn edge_router(&self, name: &str) -> Result<Value> {
        self.listed("edge-routers", name)
    }

    /// Is the edge router of this name listed as online?
    ///
    /// # Errors
    /// As [`ZitiCli::listed`].
    pub fn is_online(&self, name: &str) -> Result<bool> {
        Ok(self.edge_router(name)?.get("isOnline") == Some(&Value::Bool(true)))
    }

    /// Waits until an edge router is listed as online, or as not.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_online(&self, name: &str, is_online: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.is_online(name)? != is_online {
            if Instant::now() > deadline {
                bail!("`{name}` is not listed with isOnline {is_online}: {}", self.edge_router(name)?);
            }
            // Nothing tells of a change but asking again.
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}
