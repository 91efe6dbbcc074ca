//! The way between one router and its controller: what is to happen on it, and what has.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wire::Frame;

use super::bytes::ByteRule;
use super::keys::Keys;
use super::locked;
use super::record::{Recorded, Recording};
use super::rule::{Action, Message, Mixture, Rule, Way};

/// What the proxy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Bytes, as any network element could.
    Bytes,
    /// Messages: TLS ends at the proxy.
    Messages,
}

/// One router's way to its controller.
pub struct Path {
    router: String,
    level: Level,
    keys: Option<Box<dyn Keys>>,
    controller: Option<SocketAddr>,
    pid: AtomicU32,
    book: Mutex<Book>,
    pub(super) recording: Recording,
    changed: Condvar,
    pub(super) bytes: watch::Sender<ByteRule>,
    /// Goes up to end every connection.
    pub(super) severed: watch::Sender<u64>,
}

#[derive(Default)]
struct Book {
    rules: Vec<Rule>,
    mixture: Option<Mixture>,
    /// Messages since the mixture began.
    number: u64,
    struck: u64,
    seen: BTreeMap<Message, u64>,
    connections: u64,
    /// What nobody has sent.
    slipped_in: Vec<(Way, Frame)>,
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Path").field("router", &self.router).field("level", &self.level).finish_non_exhaustive()
    }
}

impl Path {
    /// The way of a router with this id, looked at message by message with the router's keys.
    pub fn of_messages(router: impl Into<String>, keys: impl Keys + 'static) -> Self {
        Self::new(router.into(), Level::Messages, Some(Box::new(keys)))
    }

    /// The way of a router with this id, whose bytes nobody understands.
    pub fn of_bytes(router: impl Into<String>) -> Self {
        Self::new(router.into(), Level::Bytes, None)
    }

    fn new(router: String, level: Level, keys: Option<Box<dyn Keys>>) -> Self {
        Self {
            router,
            level,
            keys,
            controller: None,
            pid: AtomicU32::new(0),
            book: Mutex::default(),
            recording: Recording::default(),
            changed: Condvar::new(),
            bytes: watch::Sender::new(ByteRule::Pass),
            severed: watch::Sender::new(0),
        }
    }

    /// To this controller instead of the proxy's.
    #[must_use]
    pub fn leading_to(self, controller: SocketAddr) -> Self {
        Self { controller: Some(controller), ..self }
    }

    pub(super) fn controller(&self) -> Option<SocketAddr> {
        self.controller
    }

    /// The router's id.
    pub fn router(&self) -> &str {
        &self.router
    }

    /// What is looked at.
    pub fn level(&self) -> Level {
        self.level
    }

    pub(super) fn keys(&self) -> Option<&dyn Keys> {
        self.keys.as_deref()
    }

    /// Which process dials; needed at the level of bytes.
    pub fn set_process(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    pub(super) fn process(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// From now on this happens, and nothing else. Counting starts anew.
    pub fn arm(&self, rules: impl IntoIterator<Item = Rule>) {
        let mut book = locked(&self.book);
        *book = Book { rules: rules.into_iter().collect(), connections: book.connections, ..Book::default() };
    }

    /// From now on this happens to messages.
    pub fn mix(&self, mixture: Mixture) {
        let mut book = locked(&self.book);
        *book = Book { mixture: Some(mixture), connections: book.connections, ..Book::default() };
    }

    /// From now on this happens to bytes. Counting starts anew.
    pub fn arm_bytes(&self, rule: ByteRule) {
        locked(&self.book).struck = 0;
        self.bytes.send_replace(rule);
    }

    /// From now on everything passes; what was held back goes on. What was counted stays.
    pub fn pass(&self) {
        {
            let mut book = locked(&self.book);
            book.rules.clear();
            book.mixture = None;
        }
        self.bytes.send_replace(ByteRule::Pass);
    }

    /// Has this message arrive ahead of the next one of its direction, as if the other side had sent it.
    pub fn slip_in(&self, way: Way, frame: Frame) {
        locked(&self.book).slipped_in.push((way, frame));
    }

    pub(super) fn take_slipped_in(&self, way: Way) -> Vec<Frame> {
        locked(&self.book).slipped_in.extract_if(.., |(its, _)| *its == way).map(|(_, frame)| frame).collect()
    }

    /// Ends every connection.
    pub fn sever(&self) {
        self.severed.send_modify(|times| *times += 1);
    }

    /// How often something happened since it was armed.
    pub fn struck(&self) -> u64 {
        locked(&self.book).struck
    }

    /// Waits until something has happened; `false` if it took too long.
    pub fn strikes_within(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut book = locked(&self.book);
        while book.struck == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Messages seen since it was armed, by kind.
    pub fn seen(&self) -> BTreeMap<Message, u64> {
        locked(&self.book).seen.clone()
    }

    /// Connections ever made this way.
    pub fn connections(&self) -> u64 {
        locked(&self.book).connections
    }

    /// From now on every frame is kept, whatever happens to it. Only at the level of messages.
    pub fn record(&self) {
        self.recording.begin();
    }

    /// Every frame since [`Path::record`], in the order in which they came by.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recording.so_far()
    }

    /// Waits until what was recorded is enough; `false` if it took too long.
    pub fn records_within(&self, within: Duration, is_enough: impl Fn(&[Recorded]) -> bool) -> bool {
        self.recording.until(within, is_enough)
    }

    /// Gives the number of this connection.
    pub(super) fn connected(&self) -> u64 {
        let mut book = locked(&self.book);
        book.connections += 1;
        book.connections
    }

    pub(super) fn strike(&self) {
        locked(&self.book).struck += 1;
        self.changed.notify_all();
    }

    /// What happens to this message; `None` when it passes.
    pub(super) fn fate(&self, message: Message) -> Option<Action> {
        let mut book = locked(&self.book);
        *book.seen.entry(message).or_default() += 1;
        book.number += 1;
        let rule = book.rules.iter_mut().find(|rule| rule.message == message && rule.times > 0);
        let action = match rule {
            Some(rule) if rule.after > 0 => {
                rule.after -= 1;
                None
            }
            Some(rule) => {
                rule.times -= 1;
                Some(rule.action)
            }
            None => book.mixture.and_then(|mixture| mixture.choose(book.number, message)),
        };
        if action.is_some() {
            book.struck += 1;
            self.changed.notify_all();
        }
        action
    }
}
