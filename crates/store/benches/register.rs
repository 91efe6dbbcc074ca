//! What durability costs: the same steps on a register in a file and on one in memory, alone and in a crowd.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on must stop")]

#[path = "../tests/register/support.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use store::register::{MemoryRegister, Register, SqliteRegister};
use support::*;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

static NUMBER: AtomicU64 = AtomicU64::new(1_000_000);

/// One renewal as the register sees it: stored, confirmed, used. Never the same bytes twice.
async fn renew(register: Arc<dyn Register>, router: u64) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    register.submit(store_in(router, number, 1, 10)).await.unwrap();
    register.submit(confirm(router, number, 11)).await.unwrap();
    register.submit(use_leaf(router, number, 12)).await.unwrap();
}

fn renewals(bencher: Bencher<'_, '_>, register: Arc<dyn Register>, channels: u64) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for router in 0..channels {
            enrolled(register.as_ref(), router, router).await;
        }
    });
    let before = register.metrics();
    bencher.counter(ItemsCount::new(channels * 3)).bench_local(|| {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for router in 0..channels {
                tasks.spawn(renew(Arc::clone(&register), router));
            }
            tasks.join_all().await;
        });
    });
    let after = register.metrics();
    let commits = after.commits - before.commits;
    let checkpoints = after.checkpoints - before.checkpoints;
    let renewals = (after.written_steps - before.written_steps) / 3;
    eprintln!("  {channels} channels: {renewals} renewals, {commits} commits, {checkpoints} checkpoints");
}

#[divan::bench(args = [1, 64, 1000], sample_count = 10)]
fn durable(bencher: Bencher<'_, '_>, channels: u64) {
    let folder = tempfile::tempdir().unwrap();
    let register = SqliteRegister::create(&folder.path().join("register.db"), "bench", at(0).wall).unwrap();
    renewals(bencher, Arc::new(register), channels);
}

#[divan::bench(args = [1, 64, 1000], sample_count = 10)]
fn in_memory(bencher: Bencher<'_, '_>, channels: u64) {
    renewals(bencher, Arc::new(MemoryRegister::new("bench")), channels);
}
