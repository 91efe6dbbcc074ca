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
    ("NO_COLOR", "no colours if set and not empty"),
    ("TERM", "no colours if `dumb`"),
    ("COLUMNS", "width of help texts"),
    ("NOTIFY_SOCKET", "where a daemon tells systemd that it is ready, or stopping"),
];
