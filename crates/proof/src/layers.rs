//! Every layer there is, and a few that only rehearse the runner.

use std::process::Command;

use evidence::{Control, Evidence, Lane, Layer, Skip};

/// All layers, in the order of the report.
pub(crate) fn all() -> Vec<Layer> {
    [model::layers(), crash::layers(), sim::layers(), hostile::layers(), diskfault::layers(), netfault::layers()]
        .concat()
}

/// Layers that go wrong in every way in which a layer can: the runner's own controls.
pub(crate) fn rehearsed() -> Vec<Layer> {
    let layer = |id, lane, run| Layer { id, title: "A rehearsal", lane, probe: Vec::new, run };
    vec![
        layer("holds", Lane::Computing, |_| counted()),
        #[expect(clippy::panic, reason = "a layer may panic; this one shows what becomes of it")]
        layer("panics", Lane::Waiting, |_| panic!("on purpose")),
        layer("hangs", Lane::Computing, |_| {
            // No mark, but the layer's session.
            leave(Command::new("sleep").arg("600").env_clear());
            loop {
                std::thread::park();
            }
        }),
        layer("leaves", Lane::Waiting, |_| {
            // A session of its own, but the mark.
            leave(Command::new("setsid").args(["sleep", "600"]));
            counted()
        }),
        layer("misses", Lane::Computing, |_| {
            let control = Control { name: "a mutant".into(), is_wrong: true, caught: 0, states: 9, example: None };
            Evidence { controls: vec![control], ..counted() }
        }),
        Layer {
            probe: || vec![Skip { what: "a part of it".into(), why: "no such device".into() }],
            ..layer("lacks", Lane::Waiting, |_| counted())
        },
    ]
}

fn counted() -> Evidence {
    let mut evidence = Evidence::default();
    evidence.tried("states", 1_000);
    evidence
}

/// Starts a process that outlives its parent, and prints its id.
fn leave(command: &mut Command) {
    match command.spawn() {
        Ok(child) => println!("left {}", child.id()),
        Err(error) => println!("left nothing: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::all;

    /// Layers of which `cargo test` runs a share, without privileges, and where.
    const TESTED: &[(&str, &str)] = &[
        ("model", "crates/model/tests/pairings.rs"),
        ("disk", "crates/store/tests/crashes.rs"),
        ("disk-errors", "crates/store/tests/crashes.rs"),
        ("worlds", "crates/sim/tests/seeds.rs"),
        ("fuzz", "crates/hostile/tests/corpus.rs"),
        ("killed", "crates/cli/tests/errno_matrix.rs"),
        ("errno", "crates/cli/tests/errno_matrix.rs"),
        ("messages", "crates/cli/tests/net_faults.rs"),
    ];

    #[test]
    fn cargo_test_says_which_layers_it_leaves_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (id, file) in TESTED {
            assert!(all().iter().any(|layer| layer.id == *id) && root.join(file).exists(), "{id}, {file}");
        }
        let (shared, left): (Vec<&str>, Vec<&str>) =
            all().iter().map(|layer| layer.id).partition(|id| TESTED.iter().any(|(tested, _)| tested == id));
        // Past the test harness, which shows what a test prints only when it fails.
        let said = writeln!(
            std::io::stderr(),
            "\nproof: `cargo test` runs a share of the layers {}, without privileges;\n\
            proof: it leaves out {}. All of them, whole: cargo xtask proof",
            shared.join(", "),
            left.join(", "),
        );
        assert!(said.is_ok() && !left.is_empty());
    }
}
