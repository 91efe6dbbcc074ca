//! The process of a router.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::log::{Line, Log, Mark};
use crate::process::Process;

/// Orders to renew, about 20 s of them, after which it is said that it does not.
const ORDERS: u64 = 40;

/// How an order to renew ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Renewal {
    /// A controller admitted this generation.
    Promoted(u64),
    /// It did not begin, or it failed; this is what was said.
    Failed(String),
    /// The process ended.
    Ended,
}

/// A router's process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn new(process: Process, socket: &Path) -> Self {
        Self { process, socket: socket.to_owned() }
    }

    /// The process itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it says.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Waits until a controller admits it; gives the generation.
    ///
    /// # Errors
    /// When it ends before, or that does not come.
    pub fn until_online(&self) -> Result<u64> {
        self.until(Mark::default(), &["connected"])?.generation().ok_or_else(|| anyhow!("no generation in `connected`"))
    }

    /// Waits for one of these events after the mark.
    ///
    /// # Errors
    /// When the process ends before, or none comes.
    pub fn until(&self, mark: Mark, events: &[&str]) -> Result<Line> {
        let found = self.log().event(mark, PATIENCE, events);
        found.ok_or_else(|| match self.process.status() {
            Some(status) => anyhow!("ended with {status} before any of {events:?}:\n{}", self.log().text()),
            None => anyhow!("none of {events:?} came:\n{}", self.log().text()),
        })
    }

    /// Asks on the admin socket; one line of JSON each way.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self, line: &Value) -> Result<Value> {
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("cannot connect to `{}`", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream).write_all(format!("{line}\n").as_bytes())?;
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text)?;
        serde_json::from_str(&text).with_context(|| format!("`{text}` is no JSON"))
    }

    /// Asks for a renewal and does not wait for it: `{"answer": "began", "generation": 2}`, or why not.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn order_renewal(&self) -> Result<Value> {
        self.ask(&json!({ "ask": "renew" }))
    }

    /// How things stand.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn status(&self) -> Result<Value> {
        self.ask(&json!({ "ask": "status" }))
    }

    /// Orders a renewal and waits for its end, or for the end of one that is under way; gives the new generation.
    ///
    /// Failures in between are the product's to try again.
    ///
    /// # Errors
    /// When no generation gets promoted.
    pub fn renew(&self) -> Result<u64> {
        let served = self.status()?["generation"].as_u64().unwrap_or_default();
        let mut last = String::new();
        // An order is not held back by the back-off that other causes of a renewal obey, so that is done here.
        for pause in (0..ORDERS).map(|order| Duration::from_millis(20 + 20 * order)) {
            let mark = self.log().mark();
            let answer = self.order_renewal();
            let is_under_way = answer.as_ref().is_ok_and(|answer| {
                answer["answer"] == "began" || answer["answer"] == "not_begun" && answer["blocked"].is_null()
            });
            last = answer.map_or_else(|error| format!("{error:#}"), |answer| answer.to_string());
            let patience = if is_under_way { PATIENCE } else { pause };
            let mut heard = self.log().event(mark, patience, &["promoted", "attempt_failed", "recovered"]);
            if let Some(line) = heard.take_if(|line| line.event() != "promoted") {
                last = line.text;
                heard = self.log().event(mark, pause, &["promoted"]);
            }
            match heard.as_ref().and_then(Line::generation) {
                // A proof that was still due for what is served already is not yet a renewal.
                Some(generation) if generation > served => return Ok(generation),
                Some(_) => {}
                None if self.log().is_over() => {
                    bail!("ended while it renewed ({last}):\n{}", self.log().text());
                }
                None => {}
            }
        }
        bail!("it does not renew ({last}):\n{}", self.log().text())
    }

    /// Orders a renewal and waits for what comes of this one order.
    pub fn try_to_renew(&self) -> Renewal {
        let mark = self.log().mark();
        match self.order_renewal() {
            Ok(answer) if answer["answer"] == "began" => {}
            Ok(answer) => return Renewal::Failed(answer.to_string()),
            Err(_) if self.process.status().is_some() => return Renewal::Ended,
            Err(error) => return Renewal::Failed(format!("{error:#}")),
        }
        match self.log().event(mark, PATIENCE, &["promoted", "attempt_failed", "recovered"]) {
            Some(line) if line.event() == "promoted" => Renewal::Promoted(line.generation().unwrap_or_default()),
            Some(line) => Renewal::Failed(line.message().to_owned()),
            None if self.log().is_over() => Renewal::Ended,
            None => Renewal::Failed("nothing came of it".to_owned()),
        }
    }

    /// SIGTERM: it must end with 0.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(self) -> Result<Log> {
        self.process.signal(Signal::SIGTERM);
        let (status, _, log) = self.process.finish(PATIENCE)?;
        if !status.success() {
            bail!("ended with {status}: {}", log.text());
        }
        Ok(log)
    }

    /// kill -9; gives all that it said.
    pub fn kill(self) -> Log {
        self.process.kill();
        self.log().clone()
    }

    /// Waits for its end.
    pub fn wait(&self) -> Option<ExitStatus> {
        self.process.wait(PATIENCE)
    }
}
