//! Asking the person at the terminal: for a password, and whether something is really meant.

use std::env::VarError;
use std::io::{self, BufRead, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::args::{NewPassword, PasswordSource};
use crate::environment;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::Printer;

/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;

/// What Ctrl-C types while the terminal does not turn it into a signal.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE_LINE: u8 = 0x15;

/// Asks whether something is meant, unless `is_told`.
///
/// # Errors
/// [`Exit::Usage`] where nobody can be asked, [`Exit::Failed`] when the answer is not `yes`.
pub fn confirm(printer: Printer, is_told: bool, question: &str) -> Result<(), Failure> {
    if is_told {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::because(
            Exit::Usage,
            format!("{question}\n  nobody can be asked: standard input is no terminal"),
        )
        .hint("add `--yes` if that is meant"));
    }
    if is_yes(printer, question)? {
        Ok(())
    } else {
        Err(Failure::because(Exit::Failed, "not confirmed; nothing was done"))
    }
}

/// Asks a question on the terminal; only the word `yes` is one.
///
/// # Errors
/// When the terminal cannot be read.
pub fn is_yes(printer: Printer, question: &str) -> Result<bool, Failure> {
    printer.ask(&format!("{question} Type `yes`: "));
    let mut line = String::new();
    io::stdin().lock().take(64).read_line(&mut line).map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(line.trim().eq_ignore_ascii_case("yes"))
}

/// The password of `whose`: from the file, the environment or the terminal.
///
/// # Errors
/// [`Exit::Input`] when a source is of no use, [`Exit::Usage`] where there is none.
pub fn password(printer: Printer, source: &PasswordSource, whose: &str) -> Result<Zeroizing<String>, Failure> {
    match given_password(source.password_file.as_deref())? {
        Some(password) => Ok(password),
        None if io::stdin().is_terminal() => not_empty(hidden_line(printer, &format!("Password of {whose}: "))?),
        None => Err(Failure::because(Exit::Usage, format!("no password for {whose}: standard input is no terminal"))
            .hint(format!("name a file with `--password-file FILE`, or set `{}`", environment::PASSWORD))),
    }
}

/// A new password: from the file, the environment, or the terminal if that is wanted. `None` = one is to be drawn.
///
/// # Errors
/// [`Exit::Input`] when a source is of no use, [`Exit::Usage`] where nobody can be asked.
pub fn new_password(printer: Printer, source: &NewPassword) -> Result<Option<Zeroizing<String>>, Failure> {
    if !source.ask_password {
        return given_password(source.password_file.as_deref());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::because(Exit::Usage, "nobody can be asked for a password: standard input is no terminal")
            .hint("name a file with `--password-file FILE`"));
    }
    let first = not_empty(hidden_line(printer, "New password: ")?)?;
    if hidden_line(printer, "The same again: ")? != first {
        return Err(Failure::because(Exit::Failed, "the two passwords differ; nothing was changed"));
    }
    Ok(Some(first))
}

fn given_password(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(path) = file {
        let text = files::read_text(path, "password", PASSWORD_BYTES_MAX as u64)?;
        return not_empty(Zeroizing::new(text.lines().next().unwrap_or("").to_owned())).map(Some);
    }
    match std::env::var(environment::PASSWORD) {
        Ok(password) => not_empty(Zeroizing::new(password)).map(Some),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::because(Exit::Input, format!("`{}` is not UTF-8 text", environment::PASSWORD)))
        }
    }
}

fn not_empty(password: Zeroizing<String>) -> Result<Zeroizing<String>, Failure> {
    if password.is_empty() { Err(Failure::because(Exit::Input, "the password is empty")) } else { Ok(password) }
}

/// The terminal as it was, put back however the reading ends.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

/// One line that the terminal does not show. Signals are read as keys, so that Ctrl-C cannot leave the terminal dumb.
fn hidden_line(printer: Printer, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let fail = |error: io::Error| {
        Failure::new(Exit::Failed, anyhow::Error::new(error).context("cannot read from the terminal"))
    };
    let stdin = io::stdin();
    let before = tcgetattr(stdin.as_fd()).map_err(|error| fail(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    silent.special_codes[SpecialCodeIndex::VMIN] = 1;
    silent.special_codes[SpecialCodeIndex::VTIME] = 0;
    let restore = Restore(before);
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent).map_err(|error| fail(error.into()))?;
    printer.ask(prompt);
    let mut typed: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX));
    for byte in stdin.lock().bytes() {
        match byte.map_err(fail)? {
            b'\r' | b'\n' => break,
            END if typed.is_empty() => break,
            INTERRUPT => {
                drop(restore);
                printer.note("");
                return Err(Failure::because(Exit::Failed, "interrupted; nothing was done"));
            }
            ERASE_LINE => typed.clear(),
            // Backspace takes a whole character: its first byte and those that continue it.
            0x08 | 0x7f => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte if typed.len() < PASSWORD_BYTES_MAX => typed.push(byte),
            _ => return Err(Failure::because(Exit::Input, format!("longer than {PASSWORD_BYTES_MAX} bytes"))),
        }
    }
    drop(restore);
    printer.note("");
    let text =
        std::str::from_utf8(&typed).map_err(|_| Failure::because(Exit::Input, "the password is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
