//! What may be wrong with a network.

use std::fmt;

use anyhow::{Result, bail};

use super::hosts::Hosts;

/// One fault of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 30 % of all packets vanish, both ways.
    RandomLoss,
    /// Every fifth packet to the router vanishes.
    EveryFifth,
    /// Nothing passes, and nobody is told.
    Partition,
    /// Nothing reaches the controller.
    RequestsLost,
    /// What the controller sends is lost, but for so many bytes at first: it acts, and the router does not hear of it.
    RepliesLostAfter(u32),
    /// What the controller sends is counted, and arrives.
    Counted,
    /// The controller's host resets every connection.
    Reset,
    /// The router's host says that there is no way.
    Unreachable,
    /// After so many bytes from the router nothing passes: death in the middle of a handshake, or of a request.
    QuotaAfter(u32),
    /// Large packets vanish.
    LargePacketsLost,
    /// A line of 96 kbit/s.
    SlowLine,
    /// The cable is out.
    Unplugged,
    /// The router's host has destroyed the connection.
    SocketKilled,
    /// The controller's host has.
    ControllersSocketKilled,
}

impl Fault {
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::RandomLoss,
            Self::EveryFifth,
            Self::Partition,
            Self::RequestsLost,
            Self::Reset,
            Self::Unreachable,
            Self::LargePacketsLost,
            Self::SlowLine,
            Self::Unplugged,
            Self::SocketKilled,
            Self::ControllersSocketKilled,
        ];
        // The exchange of a renewal is about 6 kB from the controller, acknowledgements included.
        all.extend([0, 800, 2_400, 4_000, 6_000].map(Self::RepliesLostAfter));
        all.extend([100, 1_500, 4_000].map(Self::QuotaAfter));
        all
    }

    /// The row of the crash matrix.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::RandomLoss | Self::EveryFifth => "packets lost",
            Self::Partition | Self::RequestsLost | Self::Unplugged | Self::LargePacketsLost => "partition",
            Self::RepliesLostAfter(_) => "replies lost one way",
            Self::Counted => "nothing",
            Self::Reset | Self::Unreachable | Self::SocketKilled | Self::ControllersSocketKilled => {
                "reset, rejected or destroyed connections"
            }
            Self::QuotaAfter(_) => "byte quota",
            Self::SlowLine => "slow line",
        }
    }

    /// Is it there for as long as it is not taken away?
    pub(super) fn lasts(self) -> bool {
        !matches!(self, Self::SocketKilled | Self::ControllersSocketKilled)
    }

    /// Puts it on, for connections to this port of the controller.
    pub(super) fn put(self, hosts: &Hosts, port: u16) -> Result<Put<'_>> {
        let put = Put { fault: self, hosts };
        match self {
            Self::SlowLine => {
                let shaping = "tc qdisc add dev va root tbf rate 96kbit burst 1600 latency 400ms";
                hosts.on_the_routers(&shaping.split(' ').collect::<Vec<_>>(), None)?;
            }
            Self::Unplugged => {
                hosts.ip(&["link", "set", "va", "down"])?;
            }
            Self::SocketKilled => {
                let killed = hosts.on_the_routers(&["ss", "-K", "dst", hosts.controller_address()], None)?;
                expect_a_line(&killed)?;
            }
            Self::ControllersSocketKilled => {
                let killed = hosts.on_the_controllers(&["ss", "-K", "dst", hosts.router_address()], None)?;
                expect_a_line(&killed)?;
            }
            _ => {
                let (on_controllers, script) = self.script(port);
                let nft = ["nft", "-f", "-"];
                if on_controllers {
                    hosts.on_the_controllers(&nft, Some(&script))?;
                } else {
                    hosts.on_the_routers(&nft, Some(&script))?;
                }
            }
        }
        Ok(put)
    }

    /// Rules of a packet filter, and on whose host: the controller's?
    fn script(self, port: u16) -> (bool, String) {
        let table = |input: String, output: String| {
            let chain = |hook: &str, rules: &str| {
                format!(" chain {hook}s {{\n  type filter hook {hook} priority 0;\n  {rules}\n }}\n")
            };
            format!("table inet fault {{\n{}{}}}\n", chain("input", &input), chain("output", &output))
        };
        let (to, from) = (format!("tcp dport {port}"), format!("tcp sport {port}"));
        let none = String::new;
        match self {
            Self::RandomLoss => (
                true,
                table(
                    format!("{to} numgen random mod 100 < 30 counter drop"),
                    format!("{from} numgen random mod 100 < 30 counter drop"),
                ),
            ),
            Self::EveryFifth => (true, table(none(), format!("{from} numgen inc mod 5 0 counter drop"))),
            Self::Partition => (true, table(format!("{to} counter drop"), format!("{from} counter drop"))),
            Self::RequestsLost => (true, table(format!("{to} counter drop"), none())),
            Self::RepliesLostAfter(bytes) => {
                (true, table(none(), format!("{from} quota over {bytes} bytes counter drop")))
            }
            Self::Counted => (true, table(none(), format!("{from} counter"))),
            Self::Reset => (true, table(format!("{to} counter reject with tcp reset"), none())),
            Self::Unreachable => {
                (false, table(none(), format!("{to} counter reject with icmpx type host-unreachable")))
            }
            Self::QuotaAfter(bytes) => (true, table(format!("{to} quota over {bytes} bytes counter drop"), none())),
            Self::LargePacketsLost => (
                true,
                table(format!("{to} ip length > 500 counter drop"), format!("{from} ip length > 500 counter drop")),
            ),
            Self::SlowLine | Self::Unplugged | Self::SocketKilled | Self::ControllersSocketKilled => (true, none()),
        }
    }
}

/// `ss -K` lists what it destroys below a heading; a kernel that cannot do it says so elsewhere.
fn expect_a_line(killed: &str) -> Result<()> {
    if killed.lines().count() < 2 {
        bail!("`ss -K` destroyed no connection: {killed}");
    }
    Ok(())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RandomLoss => "30 % random loss",
            Self::EveryFifth => "every fifth packet to the router lost",
            Self::Partition => "partition both ways",
            Self::RequestsLost => "partition to the controller",
            Self::RepliesLostAfter(bytes) => return write!(f, "replies lost after {bytes} bytes"),
            Self::Counted => "nothing",
            Self::Reset => "every packet answered with a reset",
            Self::Unreachable => "host unreachable",
            Self::QuotaAfter(bytes) => return write!(f, "cut off after {bytes} bytes of the router"),
            Self::LargePacketsLost => "packets over 500 bytes lost",
            Self::SlowLine => "96 kbit/s",
            Self::Unplugged => "link down and up",
            Self::SocketKilled => "the router's sockets destroyed",
            Self::ControllersSocketKilled => "the controller's sockets destroyed",
        })
    }
}

/// A fault that is on.
#[derive(Debug)]
pub(super) struct Put<'a> {
    fault: Fault,
    hosts: &'a Hosts,
}

impl Put<'_> {
    /// Did it do anything?
    pub(super) fn struck(&self) -> Result<bool> {
        match self.fault {
            // What they do is done, or cannot be missed.
            Fault::SlowLine | Fault::Unplugged | Fault::SocketKilled | Fault::ControllersSocketKilled => Ok(true),
            _ => Ok(self.met("packets ")? > 0),
        }
    }

    /// How many bytes it met, below TCP.
    pub(super) fn bytes(&self) -> Result<u64> {
        self.met("bytes ")
    }

    /// The sum of one part of all counters, as in `counter packets 3 bytes 180`.
    fn met(&self, part: &str) -> Result<u64> {
        let list = ["nft", "list", "table", "inet", "fault"];
        let listed = match self.fault {
            Fault::Unreachable => self.hosts.on_the_routers(&list, None)?,
            _ => self.hosts.on_the_controllers(&list, None)?,
        };
        let counters = listed.split("counter packets ").skip(1);
        let number = |counter: &str| {
            let text = format!("packets {counter}");
            text.split(part).nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
        };
        Ok(counters.filter_map(number).sum())
    }

    /// Takes it away.
    pub(super) fn remove(self) -> Result<()> {
        let delete = ["nft", "delete", "table", "inet", "fault"];
        match self.fault {
            Fault::SocketKilled | Fault::ControllersSocketKilled => {}
            Fault::SlowLine => {
                self.hosts.on_the_routers(&["tc", "qdisc", "del", "dev", "va", "root"], None)?;
            }
            Fault::Unplugged => {
                self.hosts.ip(&["link", "set", "va", "up"])?;
            }
            Fault::Unreachable => {
                self.hosts.on_the_routers(&delete, None)?;
            }
            _ => {
                self.hosts.on_the_controllers(&delete, None)?;
            }
        }
        Ok(())
    }
}
