//! The write orders of others, and ours with one mistake, under the same tracer: what it must find wrong, and what it cannot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rig::{Direct, Ran, Starter};

use crate::trace::{Call, Counted, Fault, Tracer};

/// One order, as `write-order list` says it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) name: String,
    /// Words for the faults under which it loses the identity through its files.
    files: Vec<String>,
    /// The same with a controller that admits one fingerprint.
    protocol: Vec<String>,
}

/// How a controller counts what is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// Both generations until the order has come to its end.
    Files,
    /// One at a time, changed where the order's protocol commits.
    Protocol,
}

impl Order {
    pub(crate) fn is_wrong(&self, judge: Judge, fault: &str) -> bool {
        let faults = if judge == Judge::Files { &self.files } else { &self.protocol };
        faults.iter().any(|word| word == fault)
    }
}

/// The program.
#[derive(Clone, Debug)]
pub(crate) struct WriteOrder {
    program: PathBuf,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    /// Why no admitted generation is usable; `None` if one is.
    pub(crate) unusable: Option<String>,
    /// Which call was harmed.
    pub(crate) harmed: Option<Call>,
}

impl WriteOrder {
    pub(crate) fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    fn run(&self, starter: &dyn Starter, args: &[&str]) -> Result<Ran> {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear();
        Ran::of(starter, command)
    }

    pub(crate) fn list(&self) -> Result<Vec<Order>> {
        let text = self.run(&Direct, &["list"])?.ok().context("write-order list")?.stdout;
        let words = |part: Option<&str>, name: &str| -> Result<Vec<String>> {
            let words = part.and_then(|part| part.strip_prefix(name)).context("a line of `write-order list`")?;
            Ok(words.split(',').filter(|word| *word != "-").map(str::to_owned).collect())
        };
        text.lines()
            .map(|line| {
                let mut parts = line.split_whitespace();
                let name = parts.next().context("a name")?.to_owned();
                Ok(Order { name, files: words(parts.next(), "files=")?, protocol: words(parts.next(), "protocol=")? })
            })
            .collect()
    }

    /// The calls that change something in one renewal.
    pub(crate) fn calls(&self, order: &Order, judge: Judge, folder: &Path) -> Result<Vec<Call>> {
        let (tracer, _) = self.renew(order, judge, folder, Fault::Nothing)?;
        Ok(tracer.calls())
    }

    /// Renews once with this fault, and asks what a start could use.
    pub(crate) fn put(&self, order: &Order, judge: Judge, folder: &Path, fault: Fault) -> Result<Put> {
        let (tracer, said) = self.renew(order, judge, folder, fault)?;
        let load = self.run(&Direct, &[&order.name, "load", &folder.display().to_string()])?.ok()?;
        let usable: Vec<&str> = load.stdout.lines().filter_map(|line| line.strip_prefix("usable ")).collect();
        let has_committed = said.lines().any(|line| line == "commit 2");
        let admitted: &[&str] = match (has_committed, judge) {
            (true, _) => &["2"],
            (false, Judge::Files) => &["1", "2"],
            (false, Judge::Protocol) => &["1"],
        };
        let is_usable = usable.iter().any(|generation| admitted.contains(generation));
        let unusable = (!is_usable).then(|| {
            let why = load.stderr.lines().next().unwrap_or_default().to_owned();
            format!("the controller admits {admitted:?}, a start could use {usable:?} {why}")
        });
        Ok(Put { unusable, harmed: tracer.harmed() })
    }

    /// Installs generation 1 and renews to generation 2; gives what it said about the second.
    fn renew(&self, order: &Order, judge: Judge, folder: &Path, fault: Fault) -> Result<(Tracer, String)> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let shown = folder.display().to_string();
        let mut args = vec![order.name.as_str(), "put", &shown, "1"];
        if judge == Judge::Protocol {
            args.push("--protocol");
        }
        self.run(&Direct, &args)?.ok()?;
        if let Some(number) = args.get_mut(3) {
            *number = "2";
        }
        let tracer = Tracer::with([folder.to_owned()], fault, Counted::Changes);
        let ran = self.run(&tracer, &args)?;
        if ran.code == Some(2) {
            bail!("write-order: {}", ran.stderr);
        }
        Ok((tracer, ran.stdout))
    }
}
