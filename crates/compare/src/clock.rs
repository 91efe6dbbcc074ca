//! The wall clock of one process, moved while it runs.
//!
//! `libfaketime` cannot be loaded into a static program such as OpenZiti's. But every program here, theirs and ours, asks the kernel's
//! vDSO for the time, and that is code in the memory of the process. It is replaced by a few instructions that make the system call and add
//! an offset, which may be changed at any time. Only the wall clock moves; what timers sleep by does not. So a jump is also what a suspend
//! looks like from inside: the wall clock has moved on, the monotonic clock has not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the offset stands behind the first instruction, in bytes: aligned, so that it changes at once.
const OFFSET_AT: u64 = 32;

/// `clock_gettime(clock, to)`: asks the kernel; to the answers for `CLOCK_REALTIME` (0) and `CLOCK_REALTIME_COARSE` (5) the seconds at
/// [`OFFSET_AT`] are added.
const CODE: [u8; 32] = [
    0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228
    0x0f, 0x05, // syscall
    0x85, 0xff, // test edi, edi
    0x74, 0x05, // je add
    0x83, 0xff, 0x05, // cmp edi, 5
    0x75, 0x0a, // jne end
    0x48, 0x8b, 0x0d, 0x09, 0x00, 0x00, 0x00, // add: mov rcx, [rip + 9]
    0x48, 0x01, 0x0e, // add [rsi], rcx
    0xc3, // end: ret
    0x90, 0x90, 0x90, 0x90, 0x90, // up to the offset
];

/// Moves the wall clock of a process that has just been started, or was moved before: this many seconds ahead of the machine's.
///
/// # Errors
/// When the process is not there, or not of this kind.
pub(crate) fn set(pid: Pid, program: &std::path::Path, ahead_s: i64) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the clock of a process can be moved on x86-64 only");
    }
    until_it_is(pid, program)?;
    let frozen = Frozen::new(pid)?;
    let (start, function) = clock_gettime_of(pid)?;
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let at = start + function.div_ceil(8) * 8;
    // A jump from the first instruction to the aligned place, if it is not aligned itself.
    let skipped = at - (start + function);
    if skipped > 0 {
        let jump = [0xeb, u8::try_from(skipped.saturating_sub(2)).unwrap_or(0)];
        if skipped < 2 {
            bail!("the function begins at an odd place: {function:#x}");
        }
        memory.write_all_at(&jump, start + function)?;
    }
    memory.write_all_at(&ahead_s.to_le_bytes(), at + OFFSET_AT)?;
    memory.write_all_at(&CODE, at)?;
    drop(frozen);
    Ok(())
}

/// It is started by another program that becomes it.
fn until_it_is(pid: Pid, program: &std::path::Path) -> Result<()> {
    let wanted = program.canonicalize()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_link(format!("/proc/{pid}/exe")).ok().as_ref() != Some(&wanted) {
        if Instant::now() > deadline {
            bail!("process {pid} does not become `{}`", wanted.display());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Stands still as long as this lives.
struct Frozen(Pid);

impl Frozen {
    fn new(pid: Pid) -> Result<Self> {
        kill(pid, Signal::SIGSTOP)?;
        let frozen = Self(pid);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_stopped(pid)? {
            if Instant::now() > deadline {
                bail!("process {pid} does not stop");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Every thread of it.
fn is_stopped(pid: Pid) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        if !matches!(state, Some("T" | "t" | "Z" | "X")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the vDSO begins in this process, and where its `clock_gettime` is behind that.
fn clock_gettime_of(pid: Pid) -> Result<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).context("no vDSO")?;
    let (from, to) = line.split_whitespace().next().and_then(|range| range.split_once('-')).context("no range")?;
    let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
    // The image of this very process is the same one, and nobody has changed it.
    let own = fs::read_to_string("/proc/self/maps")?;
    let own = own.lines().find(|line| line.ends_with("[vdso]")).context("no vDSO here")?;
    let own = own.split('-').next().context("no range")?;
    let mut image = vec![0; usize::try_from(to - from)?];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, u64::from_str_radix(own, 16)?)?;
    let function = symbol(&image, "__vdso_clock_gettime").ok_or_else(|| anyhow!("the vDSO has no `clock_gettime`"))?;
    Ok((from, function))
}

/// The address of a symbol in a small ELF image whose addresses begin with 0.
fn symbol(image: &[u8], name: &str) -> Option<u64> {
    let number = |at: usize, length: usize| {
        let bytes = image.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let place = |at: usize, length: usize| usize::try_from(number(at, length)?).ok();
    let (headers, count) = (place(32, 8)?, place(56, 2)?);
    // The segment that says where the tables are.
    let dynamic = (0..count).map(|index| headers + 56 * index).find(|at| number(*at, 4) == Some(2))?;
    let mut at = place(dynamic + 8, 8)?;
    let (mut strings, mut symbols) = (None, None);
    while let Some(tag) = number(at, 8).filter(|tag| *tag != 0) {
        match tag {
            5 => strings = place(at + 8, 8),
            6 => symbols = place(at + 8, 8),
            _ => {}
        }
        at += 16;
    }
    let (strings, symbols) = (strings?, symbols?);
    (symbols..image.len()).step_by(24).take(64).find_map(|entry| {
        let text = image.get(strings + place(entry, 4)?..)?;
        let ends = text.iter().position(|byte| *byte == 0)?;
        (text.get(..ends)? == name.as_bytes()).then(|| number(entry + 8, 8))?
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "EXUVIA_COMPARE_CLOCK";

    /// What the other test starts: tells the time for every line that it reads.
    #[test]
    fn tells_the_time_when_it_is_asked() -> Result<()> {
        if std::env::var_os(CHILD).is_none() {
            return Ok(());
        }
        for line in std::io::stdin().lines() {
            line?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            println!("\ntime {}", now.as_secs());
        }
        Ok(())
    }

    #[test]
    fn the_wall_clock_of_one_process_moves_and_moves_back() -> Result<()> {
        if !cfg!(target_arch = "x86_64") {
            return Ok(());
        }
        let program = std::env::current_exe()?;
        let mut child = Command::new(&program)
            .args(["--exact", "clock::tests::tells_the_time_when_it_is_asked", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let mut answers = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut questions = child.stdin.take().context("no input")?;
        let mut ask = || -> Result<i64> {
            std::io::Write::write_all(&mut questions, b"\n")?;
            let told = answers.find_map(|line| Some(line.ok()?.strip_prefix("time ")?.parse::<i64>()));
            Ok(told.context("no answer")??)
        };
        let now = ask()?;
        for ahead in [0, 86_400 * 360, -86_400 * 8, 5] {
            set(pid, &program, ahead)?;
            let told = ask()?;
            assert!((told - now - ahead).abs() < 30, "{ahead}: {told} after {now}");
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}
