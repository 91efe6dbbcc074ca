//! `docs/operating/cli.md`, made from the command line itself: every command as `--help` shows it, and every variable.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::args::Cli;
use crate::environment;

const WIDTH: usize = 100;

const HEAD: &str = "\
# Command line

Made from the program by a test; do not edit (`UPDATE_CLI_REFERENCE=1 cargo test -p exuvia --bin exuvia reference`). Exit codes:
[exit-codes.md](exit-codes.md). Configuration files: [configuration.md](configuration.md).

Standard output carries data and nothing else; remarks, warnings, questions, errors and the log go to standard error. Wherever a script would read
the output there is `--json`; its keys end in their unit. Times are UTC. Questions are only asked on a terminal; elsewhere the command says which
option it needs.
";

/// The whole document.
fn document() -> String {
    let mut text = HEAD.to_owned();
    let mut cli = Cli::command().term_width(WIDTH).color(clap::ColorChoice::Never);
    cli.build();
    describe(&mut cli, &mut text);
    text.push_str("\n## Environment\n\n| variable | meaning |\n|---|---|\n");
    for (name, meaning) in environment::VARIABLES {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text
}

fn describe(command: &mut Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let _ = write!(text, "\n## {name}\n\n```text\n{}```\n", help(command));
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        describe(below, text);
    }
}

fn help(command: &mut Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n"))
}

mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::{Command, CommandFactory as _};

    use super::document;
    use crate::args::Cli;
    use crate::environment;

    #[test]
    fn the_committed_reference_is_what_help_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating/cli.md");
        let made = document();
        if std::env::var_os("UPDATE_CLI_REFERENCE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "docs/operating/cli.md differs from the command line; run with UPDATE_CLI_REFERENCE=1"
        );
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    fn every(command: &Command, see: &mut impl FnMut(&Command)) {
        see(command);
        command.get_subcommands().for_each(|below| every(below, see));
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        every(&Cli::command(), &mut |command| {
            assert!(command.get_about().is_some(), "`{}` has none", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "`{}` of `{}` has none", arg.get_id(), command.get_name());
            }
        });
    }

    #[test]
    fn every_variable_of_the_command_line_is_listed() {
        let listed: BTreeSet<&str> = environment::VARIABLES.iter().map(|(name, _)| *name).collect();
        every(&Cli::command(), &mut |command| {
            for name in command.get_arguments().filter_map(|arg| arg.get_env()) {
                assert!(listed.contains(&*name.to_string_lossy()), "{name:?} is not listed");
            }
        });
    }
}
