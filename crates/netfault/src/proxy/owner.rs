//! Which process has the other end of a loopback connection, by what `/proc` says.

use std::fs;
use std::path::Path;

/// Index into `pids` of the process that holds the IPv4 loopback socket with this local port.
pub(super) fn process_of(port: u16, pids: &[u32]) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!("socket:[{}]", inode_of(&table, port)?);
    pids.iter().position(|pid| *pid != 0 && holds(*pid, &wanted))
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`, addresses as hex with the port behind a colon.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    let local = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&local))?;
    line.split_whitespace().nth(9)?.parse().ok()
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(entries) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted))
}
