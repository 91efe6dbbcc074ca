//! The layer `time`: clocks that are wrong, and clocks that jump, on the router's machine and on the controller's.
//!
//! The shipped programs run unmodified: `libfaketime` moves the wall clock of one process, also while it runs, and leaves the other
//! clocks alone; a time namespace moves the uptime. What must hold (section 5 of the design): a router's clock never excludes a
//! candidate and never erases one, nothing spins, and as soon as the clocks agree again the router is online and renews, without a
//! restart.

mod control;
mod site;
mod stories;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Result;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use rig::Exuvia;

use crate::proxy::locked;
use stories::{Story, stories};

/// Stories that are lived at once. Most of each is waiting.
const AT_ONCE: usize = 18;

/// The layer `time`.
pub fn layers() -> Vec<Layer> {
    vec![Layer {
        id: "time",
        title: "clocks that are wrong and clocks that jump, under the shipped programs",
        lane: Lane::Waiting,
        probe,
        run,
    }]
}

/// Where Debian and others install it.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let name = "faketime/libfaketime.so.1";
    let multi_arch = ["x86_64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu", "arm-linux-gnueabihf"];
    let folders =
        multi_arch.iter().map(|arch| format!("/usr/lib/{arch}")).chain(["/usr/lib", "/usr/lib64"].map(Into::into));
    folders.map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists())
}

fn probe() -> Vec<Skip> {
    let mut missing = Vec::new();
    if libfaketime().is_none() {
        missing.push(Skip {
            what: "wrong and jumping wall clocks".to_owned(),
            why: "libfaketime is missing: install the package faketime".to_owned(),
        });
    }
    if !site::can_shift_uptime() {
        missing.push(Skip {
            what: "long and shifted uptimes".to_owned(),
            why: "`unshare -T` and `setpriv` of util-linux, a kernel with time namespaces, and root are needed"
                .to_owned(),
        });
    }
    missing
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence::default();
    if let Err(error) = run_all(plan, &mut evidence) {
        evidence.failed(format!("the layer could not be run: {error:#}"), "cargo xtask proof --only time");
    }
    evidence
}

fn run_all(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    control::run(evidence);
    let Some(library) = libfaketime() else { return Ok(()) };
    let can_shift_uptime = site::can_shift_uptime();
    let only = std::env::var("EXUVIA_SCENARIO").ok();
    let began = Instant::now();
    let all: Vec<Story> = stories(plan.is_long)
        .into_iter()
        .filter(|story| can_shift_uptime || !story.shifts_uptime)
        .filter(|story| only.as_ref().is_none_or(|only| story.name == *only))
        .collect();
    let exuvia = Exuvia::new(&plan.exuvia);
    let tells = std::env::var_os("EXUVIA_TELL").is_some();
    let next = AtomicUsize::new(0);
    let broke: Mutex<Vec<(&'static str, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(all.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(story) = all.get(number) else { return };
                    let home = plan.scratch.join(format!("time-{number}"));
                    let lived = Instant::now();
                    let ended = story.live(&exuvia, &library, &home);
                    if tells {
                        eprintln!("{:.0} s: {}", lived.elapsed().as_secs_f32(), story.name);
                    }
                    if let Err(error) = ended {
                        locked(&broke).push((story.name, format!("{error:#}")));
                    }
                }
            });
        }
    });
    let broke = std::mem::take(&mut *locked(&broke));
    evidence.tried("stories of wrong and jumping clocks", all.len() as u64);
    for (name, why) in &broke {
        evidence.failed(format!("{name}: {why}"), format!("EXUVIA_SCENARIO='{name}' cargo xtask proof --only time"));
    }
    for story in &all {
        let is_locked_out = broke.iter().any(|(name, why)| *name == story.name && why.contains(site::LOCKED_OUT));
        crate::network::messages::count(evidence, "exuvia", story.fault, is_locked_out);
    }
    evidence.leave_out(
        "a real suspend to memory",
        "no test machine should do that; a stopped process whose clocks then jump by 8 days, and a start in a time namespace whose \
         uptime is 8 days ahead, stand for it",
    );
    evidence.notes.push(format!(
        "{} stories in {:.0} s. The wall clock of single processes is moved by libfaketime, the uptime by time namespaces; the \
         machine's own clock is never touched.",
        all.len(),
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}
