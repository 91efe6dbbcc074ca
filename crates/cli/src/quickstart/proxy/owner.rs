//! Which process has the other end of a loopback connection, by what `/proc` says.

use std::fs;
use std::path::Path;

/// Index into `pids` of the process that holds the IPv4 loopback socket with this local port.
pub(super) fn process_of(port: u16, pids: &[u32]) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, port)?;
    let wanted = format!("socket:[{inode}]");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_found_by_its_local_port() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
";
        assert_eq!(inode_of(table, 0x9c40), Some(222));
        assert_eq!(inode_of(table, 0x1f90), Some(111));
        assert_eq!(inode_of(table, 1), None);
        assert_eq!(inode_of("nonsense", 1), None);
    }
}
