//! What a person at a terminal sees and is asked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{PASSWORD, Place, exuvia};

/// A program at a terminal.
struct Conversation {
    child: Child,
    terminal: File,
    seen: String,
}

impl Conversation {
    fn begin(home: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let no_control = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let mut open = OpenOptions::new();
        let side = open.read(true).write(true).custom_flags(no_control).open(name.to_str().unwrap()).unwrap();
        let mut command = exuvia(home, args);
        command.env("TERM", "xterm");
        command.stdin(Stdio::from(side.try_clone().unwrap())).stdout(Stdio::from(side.try_clone().unwrap()));
        command.stderr(Stdio::from(side));
        change(&mut command);
        let child = command.spawn().unwrap();
        // The command holds this side of the terminal open; the end of the conversation is seen only without it.
        drop(command);
        Self { child, terminal: File::from(terminal), seen: String::new() }
    }

    /// Reads on until `question` is asked, and answers.
    #[track_caller]
    fn answer(&mut self, question: &str, answer: &str) {
        let from = self.seen.len();
        while !self.seen[from..].contains(question) {
            assert!(self.read(), "never asked `{question}`: {}", self.seen);
        }
        self.terminal.write_all(answer.as_bytes()).unwrap();
    }

    /// Reads to the end; gives the exit code and everything that was seen.
    fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        (self.child.wait().unwrap().code(), self.seen)
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 1024];
        // Linux reports the end of a terminal as EIO.
        let length = self.terminal.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        length > 0
    }
}

#[test]
fn a_person_vouches_for_a_controller_and_the_password_is_not_shown() {
    let place = Place::with_controller();
    let session = place.path(".local/state/exuvia/session.json");
    let login = || Conversation::begin(place.home.path(), &["fleet", "login", &place.api], |_| {});

    let mut refused = login();
    refused.answer("Type `yes`: ", "no\n");
    let (code, seen) = refused.end();
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("nothing was sent"), "{seen}");

    let mut interrupted = login();
    interrupted.answer("Type `yes`: ", "yes\n");
    interrupted.answer("Password of `admin`: ", "abc\u{3}");
    let (code, seen) = interrupted.end();
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("interrupted"), "{seen}");
    assert!(!session.exists());

    let mut trusted = login();
    trusted.answer("Type `yes`: ", "yes\n");
    // A slip, wiped with backspace.
    trusted.answer("Password of `admin`: ", &format!("x\u{7f}{PASSWORD}\r"));
    let (code, seen) = trusted.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(!seen.contains(PASSWORD), "{seen}");
    assert!(!fs::read_to_string(&session).unwrap().contains(PASSWORD));

    place.run(&["fleet", "create", "r1", "-o", "r1.jwt"]).ok();
    let mut spared = Conversation::begin(place.home.path(), &["fleet", "delete", "r1"], |_| {});
    spared.answer("Type `yes`: ", "y\n");
    assert_eq!(spared.end().0, Some(1));
    assert_eq!(place.run(&["fleet", "list", "--json"]).ok().json().as_array().unwrap().len(), 1);
}

#[test]
fn colour_is_for_terminals_and_only_if_it_is_wanted() {
    let home = tempfile::tempdir().unwrap();
    let see = |change: fn(&mut Command)| Conversation::begin(home.path(), &["status", "none.yml"], change).end().1;
    assert!(see(|_| {}).contains("\u{1b}[1;31merror:"));
    let unwanted: [fn(&mut Command); 2] = [
        |command| {
            command.env("NO_COLOR", "1");
        },
        |command| {
            command.env("TERM", "dumb");
        },
    ];
    for plain in unwanted.map(see) {
        assert!(plain.contains("error: ") && !plain.contains('\u{1b}'), "{plain}");
    }
}
