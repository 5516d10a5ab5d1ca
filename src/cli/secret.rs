//! `gatewright secret`: what is needed to keep credentials out of files.

use std::io::{BufRead, IsTerminal, Write};

use clap::Subcommand;
use zeroize::Zeroizing;

use super::{FAILED, OK, WRONG_USAGE, say};
use crate::identity::password::hash_new;

/// Longest password that is taken, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct SecretArguments {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Reads a password from standard input, one line, and prints its Argon2id hash for a `users:` document.
    Hash,
}

pub(super) fn secret(arguments: &SecretArguments) -> u8 {
    match arguments.command {
        SecretCommand::Hash => hash(),
    }
}

fn hash() -> u8 {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprint!("Password (it will be visible): ");
        let _ = std::io::stderr().flush();
    }
    let mut line = Zeroizing::new(Vec::new());
    let mut limited = std::io::Read::take(stdin.lock(), PASSWORD_BYTES_MAX + 1);
    if let Err(error) = limited.read_until(b'\n', &mut line) {
        eprintln!("the password cannot be read: {error}");
        return FAILED;
    }
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() || password.len() as u64 > PASSWORD_BYTES_MAX {
        eprintln!("expected a password of 1 to {PASSWORD_BYTES_MAX} bytes on standard input");
        return WRONG_USAGE;
    }
    match hash_new(password) {
        Ok(hash) => {
            say(&format!("{hash}\n"));
            OK
        }
        Err(error) => {
            eprintln!("the hash cannot be made: {error}");
            FAILED
        }
    }
}
