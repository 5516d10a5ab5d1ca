//! Commands that read one question per line and print one answer per line.

use std::io::{BufRead, Read};

use super::{FAILED, OK, say};

/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Answers every line of standard input that is not empty; returns the exit code.
pub(super) fn each_line(answer: impl Fn(&[u8]) -> String) -> u8 {
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match stdin.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return OK,
            Ok(_) if !line.ends_with(b"\n") && line.len() as u64 == LINE_BYTES_MAX => {
                eprintln!("a line is longer than {LINE_BYTES_MAX} bytes");
                return FAILED;
            }
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => say(&format!("{}\n", answer(&line))),
            Err(error) => {
                eprintln!("standard input cannot be read: {error}");
                return FAILED;
            }
        }
    }
}
