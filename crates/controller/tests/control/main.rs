//! Control channels over real TLS on loopback: a whole daemon on one side, routers made of `net`, `pki` and `wire` on the
//! other. The register is in memory where its disk must fail, and in a file where files are the point.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how tests fail")]

mod admission;
mod advice;
mod closing;
mod extension;
mod killed;
mod process;
mod stock;
mod world;
