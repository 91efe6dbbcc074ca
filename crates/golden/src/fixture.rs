//! A conversation in files: `frames.bin`, which is every frame one after another, and `index.txt`, which says what each one is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use netfault::proxy::{Recorded, Way};
use wire::hello::Hello;
use wire::{Decoder, Frame, Limits, content_type, header};

const FRAMES: &str = "frames.bin";
const INDEX: &str = "index.txt";
/// Longer bodies are left out: nothing is learnt from the rest of a long list.
const BODY_BYTES_MAX: usize = 24 << 10;

/// What was said between one router and one controller, on all connections of the router, in the order in which it went by.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Such as `2.1/stock-controller-stock-router`.
    pub name: String,
    /// Program and version, as in `ziti v2.1.0`.
    pub controller: String,
    /// The same of the router.
    pub router: String,
    /// All of it.
    pub frames: Vec<Captured>,
}

/// One frame of a conversation.
#[derive(Clone, Debug)]
pub struct Captured {
    /// On which of the router's connections, from 1.
    pub connection: u64,
    /// Which way it went.
    pub way: Way,
    /// As its sender wrote it.
    pub bytes: Bytes,
    /// The same, decoded.
    pub frame: Frame,
}

impl Captured {
    /// Is it a hello, or the answer to one?
    pub fn is_greeting(&self) -> bool {
        self.frame.sequence == wire::frame::NO_SEQUENCE
    }
}

impl Conversation {
    /// What is worth keeping of a recording: everything but repetition.
    pub fn of_recording(name: &str, controller: &str, router: &str, recorded: &[Recorded]) -> Self {
        let mut seen: BTreeMap<(u64, bool, i32), usize> = BTreeMap::new();
        let mut frames = Vec::new();
        for one in recorded {
            let kind = one.frame.content_type;
            let times = seen.entry((one.connection, one.way == Way::ToRouter, kind)).or_default();
            *times += 1;
            if *times <= kept_of(kind) && one.frame.body.len() <= BODY_BYTES_MAX {
                let Recorded { connection, way, bytes, frame, .. } = one.clone();
                frames.push(Captured { connection, way, bytes, frame });
            }
        }
        Self { name: name.to_owned(), controller: controller.to_owned(), router: router.to_owned(), frames }
    }

    /// Writes it below `root`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, root: &Path) -> Result<()> {
        let folder = root.join(&self.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let mut all = Vec::new();
        let mut index = format!(
            "# A conversation over a control channel. Written by `cargo xtask capture`; ../../README.md says how.\n# controller: {}\n# \
             router: {}\n# offset length connection to sequence type what\n",
            self.controller, self.router
        );
        for one in &self.frames {
            let to = match one.way {
                Way::ToController => "controller",
                Way::ToRouter => "router",
            };
            let Frame { content_type: kind, sequence, .. } = one.frame;
            let _ = write!(
                index,
                "{:>6} {:>5} {} {to:<10} {sequence:>3} {kind:>5} {}",
                all.len(),
                one.bytes.len(),
                one.connection,
                content_type::name(kind).unwrap_or("unknown"),
            );
            if let Some(request) = one.frame.reply_for() {
                let _ = write!(index, ", answers {request}");
            }
            if let Some(kind) = one.frame.headers.text(header::TYPE).filter(|_| one.is_greeting()) {
                let _ = write!(index, ", {kind}");
            }
            index.push('\n');
            all.extend_from_slice(&one.bytes);
        }
        for (name, bytes) in [(FRAMES, all.as_slice()), (INDEX, index.as_bytes())] {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }

    /// Reads the conversation in `root/name`.
    ///
    /// # Errors
    /// When a file is missing, or the two do not fit together.
    pub fn load(root: &Path, name: &str) -> Result<Self> {
        let folder = root.join(name);
        let (index, all) = (folder.join(INDEX), folder.join(FRAMES));
        let text = fs::read_to_string(&index).with_context(|| format!("cannot read `{}`", index.display()))?;
        let all = Bytes::from(fs::read(&all).with_context(|| format!("cannot read `{}`", all.display()))?);
        let told = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(what));
            line.map(|line| line.trim().to_owned()).with_context(|| format!("`{}` names no {what}", index.display()))
        };
        let (controller, router) = (told("controller:")?, told("router:")?);
        let mut frames = Vec::new();
        let mut end = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let captured = read_line(line, &all, &mut end).with_context(|| format!("`{}`: {line}", index.display()))?;
            frames.push(captured);
        }
        ensure!(end == all.len(), "`{}` says nothing about the last {} bytes", index.display(), all.len() - end);
        Ok(Self { name: name.to_owned(), controller, router, frames })
    }

    /// Every conversation below `root`, by name.
    ///
    /// # Errors
    /// When one cannot be read, or there is none.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for release in folders(root)? {
            for folder in folders(&release)? {
                if folder.join(INDEX).exists() {
                    let name = folder.strip_prefix(root)?.to_string_lossy().into_owned();
                    names.push(name);
                }
            }
        }
        names.sort();
        ensure!(!names.is_empty(), "`{}` holds no conversation", root.display());
        names.iter().map(|name| Self::load(root, name)).collect()
    }

    /// The frames of one direction.
    pub fn going(&self, way: Way) -> impl Iterator<Item = &Captured> {
        self.frames.iter().filter(move |one| one.way == way)
    }

    /// The greetings of its first channel: the one that opens it, then those that join it; each a hello and its answer.
    ///
    /// # Errors
    /// When nobody opens a channel.
    pub fn first_channel(&self) -> Result<Vec<(&Captured, &Captured)>> {
        let mut greetings = Vec::new();
        for hello in self.going(Way::ToController).filter(|one| one.is_greeting()) {
            let is_answer = |one: &&Captured| one.is_greeting() && one.connection == hello.connection;
            // A listener may close without a word.
            if let Some(answer) = self.going(Way::ToRouter).find(is_answer) {
                greetings.push((hello, answer));
            }
        }
        let is_further = |hello: &Captured| {
            Hello::from_frame(&hello.frame).ok().and_then(|hello| hello.group).is_some_and(|group| !group.is_first)
        };
        let group = |answer: &Captured| answer.frame.headers.get(header::CONNECTION_ID).cloned();
        let first = *greetings.iter().find(|(hello, _)| !is_further(hello)).context("nobody opens a channel")?;
        let joins = |(hello, answer): &(&Captured, &Captured)| is_further(hello) && group(answer) == group(first.1);
        let further = greetings.iter().copied().filter(joins);
        Ok(std::iter::once(first).chain(further).collect())
    }

    /// The content type of what `answer` answers; `None` where that is not in the conversation.
    pub fn asked_by(&self, answer: &Captured) -> Option<i32> {
        let sequence = answer.frame.reply_for()?;
        let is_it = |one: &&Captured| one.frame.sequence == sequence && !one.is_greeting();
        self.going(answer.way.back()).find(is_it).map(|one| one.frame.content_type)
    }
}

fn read_line(line: &str, all: &Bytes, end: &mut usize) -> Result<Captured> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().context("the line is cut short");
    let (offset, length): (usize, usize) = (word()?.parse()?, word()?.parse()?);
    let connection = word()?.parse()?;
    let way = match word()? {
        "controller" => Way::ToController,
        "router" => Way::ToRouter,
        other => bail!("`{other}` is neither side"),
    };
    let (sequence, kind): (i32, i32) = (word()?.parse()?, word()?.parse()?);
    ensure!(offset == *end && offset + length <= all.len(), "the bytes are elsewhere");
    *end = offset + length;
    let bytes = all.slice(offset..*end);
    let frame = Decoder::new(Limits::CHANNEL).decode_whole(&bytes)?.context("the frame is cut short")?;
    ensure!((frame.sequence, frame.content_type) == (sequence, kind), "the bytes are another frame");
    Ok(Captured { connection, way, bytes, frame })
}

fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root).with_context(|| format!("cannot read `{}`", root.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// How many of a kind are kept, each way on each connection.
fn kept_of(kind: i32) -> usize {
    match kind {
        content_type::METRICS => 1,
        content_type::HEARTBEAT => 3,
        content_type::ROUTER_LINKS
        | content_type::PEER_STATE_CHANGE
        | content_type::VALIDATE_TERMINATORS_V2_REQUEST => 4,
        _ => 8,
    }
}
