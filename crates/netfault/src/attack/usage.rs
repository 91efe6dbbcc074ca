//! What a process takes from its machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

/// Memory and processor time of a process, from a moment on.
#[derive(Debug)]
pub(super) struct Usage {
    pid: Pid,
    resident_kib: u64,
    ticks: u64,
}

/// The kernel's unit of processor time in `/proc`, on every Linux that there is.
const TICKS_PER_S: u64 = 100;

impl Usage {
    /// From here and now on.
    pub(super) fn begin(pid: Pid) -> Result<Self> {
        // The highest resident size so far begins anew (`proc_pid_clear_refs(5)`). Where that is not allowed the whole past counts.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        Ok(Self { pid, resident_kib: field(pid, "VmRSS:")?, ticks: ticks(pid)? })
    }

    /// How much more memory it has held since, at its highest, than at the beginning, in MiB.
    pub(super) fn grew_mib(&self) -> Result<u64> {
        Ok(field(self.pid, "VmHWM:")?.saturating_sub(self.resident_kib) / 1024)
    }

    /// Processor time that it has taken since.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        Ok(Duration::from_millis((ticks(self.pid)?.saturating_sub(self.ticks)) * (1000 / TICKS_PER_S)))
    }
}

fn field(pid: Pid, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no `{name}`"))?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("`{name}` is `{line}`"))
}

fn ticks(pid: Pid) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // Behind the name, which may hold anything: the 12th and 13th field are user and system time.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_held_and_given_back_is_seen() {
        let usage = Usage::begin(Pid::this()).unwrap();
        let bytes = std::hint::black_box(vec![1_u8; 64 << 20]);
        drop(bytes);
        assert!(usage.grew_mib().unwrap() >= 48);
    }

    #[test]
    fn work_is_seen() {
        let usage = Usage::begin(Pid::this()).unwrap();
        let mut sum = 0_u64;
        while usage.processor_time().unwrap() < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
