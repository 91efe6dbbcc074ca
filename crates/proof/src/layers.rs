//! Every layer there is, and a few that only rehearse the runner.

use std::process::Command;

use evidence::{Control, Evidence, Lane, Layer, Skip};

/// All layers, in the order of the report.
pub(crate) fn all() -> Vec<Layer> {
    [crash::layers(), sim::layers(), hostile::layers(), diskfault::layers(), netfault::layers()].concat()
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
