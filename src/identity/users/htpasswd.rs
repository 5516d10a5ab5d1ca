//! Files of `name:hash` lines, as `htpasswd` writes them.
//!
//! Blank lines and lines that begin with `#` are skipped. The hashes are those that `password` reads, so the MD5 and SHA-1
//! forms of old files are errors. What it does not do: it opens no file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::check_name;
use crate::identity::password::PasswordHash;

/// Most lines that are reported as wrong; after that many, the file is of another kind.
pub const ERRORS_MAX: usize = 20;

/// A line that could not be read. The text never repeats the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// From 1.
    pub line: usize,
    /// What was expected, what came, what to do.
    pub text: String,
}

/// Reads a whole file.
///
/// # Errors
/// Every wrong line, up to [`ERRORS_MAX`].
pub fn parse(text: &str) -> Result<HashMap<String, PasswordHash>, Vec<LineError>> {
    let mut users = HashMap::new();
    let mut errors = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let read = read_line(content).and_then(|(name, hash)| match users.entry(name.to_owned()) {
            Entry::Vacant(place) => {
                place.insert(hash);
                Ok(())
            }
            Entry::Occupied(_) => Err(format!("expected each name once, came {name:?} again; remove one line")),
        });
        if let Err(text) = read {
            errors.push(LineError { line, text });
            if errors.len() == ERRORS_MAX {
                break;
            }
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(errors) }
}

fn read_line(line: &str) -> Result<(&str, PasswordHash), String> {
    let (name, hash) = line
        .split_once(':')
        .ok_or("expected name:hash, came a line without a colon; remove it or make it a comment")?;
    check_name(name)?;
    Ok((name, PasswordHash::parse(hash)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

    #[test]
    fn lines_comments_and_blanks_are_read() {
        let users = parse(&format!("# staff\r\n\r\nann:{HASH}\r\n  bob:{HASH}  \n")).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users["ann"].verify(b"correct horse") && users["bob"].verify(b"correct horse"));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn wrong_lines_are_numbered_and_their_hashes_not_repeated() {
        let errors = parse(&format!("ann:{HASH}\nhunter2\nbob:hunter2\n:{HASH}\nann:{HASH}\neve:$apr1$hunter2$x"));
        let errors = errors.unwrap_err();
        let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6]);
        let reasons = ["colon", "accepted are", "empty name", "again", "accepted are"];
        for (error, reason) in errors.iter().zip(reasons) {
            assert!(error.text.contains(reason) && !error.text.contains("hunter2"), "{}", error.text);
        }
        assert_eq!(parse(&"x\n".repeat(100)).unwrap_err().len(), ERRORS_MAX);
    }
}
