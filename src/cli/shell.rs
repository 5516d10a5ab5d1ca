//! `gatewright completions` and `gatewright man`: what a package installs beside the binary, made from the command line's
//! own definition so that neither can go stale.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, FAILED, OK, say};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// The shell that reads them.
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArguments) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "gatewright", &mut script);
    say(&String::from_utf8_lossy(&script));
    OK
}

/// Prints the manual page of the command and, below it, of each of its commands.
pub(super) fn man() -> u8 {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    let mut written = clap_mangen::Man::new(command.clone()).render(&mut page);
    for below in command.get_subcommands() {
        let man = clap_mangen::Man::new(below.clone());
        written = written
            .and_then(|()| man.render_name_section(&mut page))
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page));
    }
    match written {
        Ok(()) => {
            say(&String::from_utf8_lossy(&page));
            OK
        }
        Err(error) => {
            eprintln!("the manual page cannot be written: {error}");
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "gatewright", &mut script);
            let script = String::from_utf8(script).unwrap();
            for below in Arguments::command().get_subcommands() {
                assert!(script.contains(below.get_name()), "{shell}: {}", below.get_name());
            }
        }
    }
}
