//! The rig against the real program, where one was built.

use std::fs;
use std::path::{Path, PathBuf};

use rig::{Controller, ControllerSettings, Exuvia, RouterSettings, Verdict};

/// The program next to this test. `cargo test -p rig` alone builds none.
fn built() -> Option<Exuvia> {
    let test = std::env::current_exe().ok()?;
    let path: PathBuf = test.parent().and_then(Path::parent)?.join("exuvia");
    if !path.exists() {
        println!("skipped: there is no `{}`; `cargo build` makes it", path.display());
        return None;
    }
    Some(Exuvia::new(path))
}

#[test]
fn a_judge_tells_usable_locked_out_and_broken_identities_apart() {
    let Some(exuvia) = built() else { return };
    let home = tempfile::tempdir().unwrap();
    let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
    std::thread::scope(|scope| {
        for (name, settings) in [("bare", RouterSettings::bare()), ("projected", RouterSettings::projected())] {
            let (controller, home) = (&controller, home.path());
            scope.spawn(move || {
                let router = controller.created(name, &home.join(name), &settings).unwrap();
                assert!(matches!(router.judge().verdict, Verdict::CannotStart { code: Some(3), .. }));
                router.enroll().unwrap().ok().unwrap();
                let running = router.online().unwrap();
                let second = running.renew().unwrap();
                assert!(controller.admitted(router.id()).unwrap().iter().any(|leaf| leaf.stage == "used"));
                running.kill();

                let judged = router.judge();
                let Verdict::Usable { online_with, renewed_to: Some(third) } = judged.verdict else {
                    panic!("{judged:?}")
                };
                assert_eq!(online_with, second);
                assert!(third > second, "{}", judged.log);
                println!("{name}: judged in {:?}", judged.took);

                let folder = home.join(format!("{name}-elsewhere"));
                assert!(
                    std::process::Command::new("cp")
                        .arg("-a")
                        .arg(router.folder())
                        .arg(&folder)
                        .status()
                        .unwrap()
                        .success()
                );
                assert!(router.at(&folder).unwrap().judge().is_usable(), "a copy is as good");

                // Where there are copies at the configured paths, those would be served.
                if name == "bare" {
                    for entry in fs::read_dir(router.state().join("generations")).unwrap().flatten() {
                        fs::write(entry.path().join("key.pem"), "nothing").unwrap();
                    }
                    assert!(matches!(router.judge().verdict, Verdict::CannotStart { code: Some(4), .. }));
                }
            });
        }
    });
    let router = controller.enrolled("revoked", &home.path().join("revoked")).unwrap();
    controller.ask("POST", &format!("/api/v1/routers/{}/revoke", router.id()), None).unwrap();
    let judged = router.judge();
    assert!(matches!(judged.verdict, Verdict::LockedOut { .. }), "{judged:?}");
    controller.kill();
    controller.run().unwrap();
    controller.stop().unwrap();
}
