//! Runs one layer of this crate and prints what it says: `layer ID EXUVIA [long]`.

use std::path::PathBuf;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(id), Some(exuvia)) = (args.next(), args.next()) else {
        eprintln!("usage: layer ID EXUVIA [long]");
        std::process::exit(2);
    };
    let is_long = args.next().is_some_and(|word| word == "long");
    let Some(layer) = netfault::layers().into_iter().find(|layer| layer.id == id) else {
        eprintln!("no layer `{id}`");
        std::process::exit(2);
    };
    let Ok(scratch) = tempfile::tempdir() else { std::process::exit(2) };
    let seed = std::env::var("EXUVIA_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let plan = evidence::Plan {
        is_long,
        seed,
        exuvia: PathBuf::from(exuvia),
        write_order: PathBuf::new(),
        scratch: scratch.path().to_owned(),
    };
    for skip in (layer.probe)() {
        println!("skip: {} ({})", skip.what, skip.why);
    }
    let began = std::time::Instant::now();
    let found = (layer.run)(&plan);
    println!("{found:#?}");
    println!("holds: {} after {:.1} s", found.holds(), began.elapsed().as_secs_f32());
}
