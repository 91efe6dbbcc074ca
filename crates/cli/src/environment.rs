//! Every environment variable that this program reads, beside those that a configuration file names itself.

/// Level of the log, as `--log-level`.
pub const LOG_LEVEL: &str = "EXUVIA_LOG_LEVEL";
/// Form of the log, as `--log-format`.
pub const LOG_FORMAT: &str = "EXUVIA_LOG_FORMAT";
/// File of the fleet session, as `--session`.
pub const SESSION: &str = "EXUVIA_SESSION";
/// Password of an administrator.
pub const PASSWORD: &str = "EXUVIA_PASSWORD";

/// All of them: name and meaning, for the reference.
#[cfg(test)]
pub const VARIABLES: &[(&str, &str)] = &[
    (LOG_LEVEL, "level of the log, as `--log-level`"),
    (LOG_FORMAT, "form of the log, as `--log-format`"),
    (SESSION, "file that holds the session of `exuvia fleet`, as `--session`"),
    (
        PASSWORD,
        "password for `fleet login`, `controller init` and `controller reset-password`, where no `--password-file` is given",
    ),
    ("XDG_STATE_HOME", "folder under which the session of `exuvia fleet` is kept; `~/.local/state` if not set"),
    ("HOME", "home folder, where `XDG_STATE_HOME` is not set"),
    (
        "XDG_RUNTIME_DIR",
        "folder for a router's admin socket, where the state folder cannot hold it; `/tmp/exuvia-UID` if not set",
    ),
    ("NO_COLOR", "no colours if set and not empty"),
    ("TERM", "no colours if `dumb`"),
    ("COLUMNS", "width of help texts"),
    ("NOTIFY_SOCKET", "where a daemon tells systemd that it is ready, or stopping"),
    ("EXUVIA_TEST_CLOCK_OFFSET", "moves the wall clock of a process, for tests; not for people"),
    ("EXUVIA_PARENT_PID", "set by `quickstart` for its children; not for people"),
    ("EXUVIA_OBEY_MODES", "set by `quickstart` for its children; not for people"),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::VARIABLES;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_variable_that_is_read_anywhere_is_listed() {
        // The proof does not ship: whoever runs it reads its pages.
        let proof = [
            "compare",
            "crash",
            "diskfault",
            "evidence",
            "golden",
            "hostile",
            "interop",
            "model",
            "netfault",
            "proof",
            "rig",
        ];
        let mut files = Vec::new();
        for part in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap() {
            let part = part.unwrap();
            if !proof.iter().any(|name| part.file_name() == *name) {
                sources(&part.path().join("src"), &mut files);
            }
        }
        assert!(files.len() > 100);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // What follows is test code, which may read what it likes.
            let program = text.split("\nmod tests {").next().unwrap();
            for call in ["env::var(\"", "env::var_os(\"", "is_set(\"", "folder(\""] {
                for rest in program.split(call).skip(1) {
                    let name = rest.split('"').next().unwrap();
                    assert!(
                        VARIABLES.iter().any(|(listed, _)| *listed == name),
                        "`{name}` of {} is not listed",
                        file.display()
                    );
                }
            }
        }
    }
}
