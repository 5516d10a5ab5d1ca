//! Distinguished names as parsed parts (RFC 5280 §4.1.2.4), and their text form (RFC 4514).
//!
//! Names are compared part by part, in their order, never as text: two texts can look alike and mean different names.

use std::collections::BTreeSet;
use std::fmt;

use x509_parser::x509::X509Name;

/// Keywords of attribute types (RFC 4514 §3, and two that certificates often have).
const KEYWORDS: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("serialNumber", "2.5.4.5"),
];
const COMMON_NAME: &str = "2.5.4.3";

/// Type, as a dotted number, and value of one attribute.
type Attribute = (String, String);

/// A distinguished name: its relative names from the root down, each with at least one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dn(Vec<BTreeSet<Attribute>>);

impl Dn {
    pub(super) fn of(name: &X509Name<'_>) -> Dn {
        let relative = name.iter_rdn().map(|relative| {
            let attributes = relative.iter().map(|attribute| {
                let value = match attribute.as_str() {
                    Ok(text) => text.to_owned(),
                    // No text: its bytes, in a form that no text has after parsing.
                    Err(_) => format!("\0{}", data_encoding::HEXLOWER.encode(attribute.as_slice())),
                };
                (attribute.attr_type().to_id_string(), value)
            });
            attributes.collect()
        });
        Dn(relative.collect())
    }

    /// Reads `CN=app,O=Example`, the last part being the root.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Dn, String> {
        let mut relative = Vec::new();
        let mut current = BTreeSet::new();
        let mut rest = text;
        loop {
            let (kind, after) = rest.split_once('=').ok_or_else(|| format!("`{rest}` is no `TYPE=value`"))?;
            let (value, after) = value(after)?;
            current.insert((attribute_type(kind.trim())?, value));
            match after.chars().next() {
                None => break,
                Some('+') => {}
                Some(_) => relative.push(std::mem::take(&mut current)),
            }
            rest = after.get(1..).unwrap_or_default();
        }
        relative.push(current);
        relative.reverse();
        Ok(Dn(relative))
    }

    /// The first common name, from the leaf up.
    pub fn common_name(&self) -> Option<&str> {
        let attributes = self.0.iter().rev().flatten();
        let named = attributes.filter(|(kind, _)| kind == COMMON_NAME).map(|(_, value)| value.as_str());
        named.into_iter().find(|value| !value.starts_with('\0'))
    }

    /// Whether it has no part at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn attribute_type(word: &str) -> Result<String, String> {
    let known = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(word)).map(|(_, number)| *number);
    let is_number = !word.is_empty() && word.split('.').all(|part| part.parse::<u64>().is_ok());
    match known.or(is_number.then_some(word)) {
        Some(number) => Ok(number.to_owned()),
        None => Err(format!("`{word}` is no attribute type: write CN, O, OU, C, ST, L, DC, UID or its number")),
    }
}

/// One value without its escapes, and what follows it: nothing, or from `,` or `+` on.
fn value(text: &str) -> Result<(String, &str), String> {
    let mut bytes = Vec::new();
    // Bytes up to here stay: blanks at the end do not, where nobody escaped them.
    let mut solid = 0;
    let text = text.trim_start_matches(' ');
    let mut rest = text.char_indices();
    let mut end = text.len();
    while let Some((at, character)) = rest.next() {
        match character {
            ',' | '+' => {
                end = at;
                break;
            }
            '\\' => {
                let (_, next) = rest.next().ok_or("a name ends in `\\`")?;
                if let Some(high) = next.to_digit(16) {
                    let low = rest.next().and_then(|(_, low)| low.to_digit(16));
                    let low = low.ok_or("`\\` wants two hexadecimal digits, or a mark")?;
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                } else {
                    bytes.extend(next.to_string().bytes());
                }
                solid = bytes.len();
            }
            ';' | '<' | '>' | '"' => return Err(format!("`{character}` wants a `\\` before it")),
            ' ' => bytes.push(b' '),
            other => {
                bytes.extend(other.to_string().bytes());
                solid = bytes.len();
            }
        }
    }
    bytes.truncate(solid);
    let value = String::from_utf8(bytes).map_err(|_| "a value is no UTF-8".to_owned())?;
    if value.is_empty() || value.starts_with('\0') {
        return Err("a value is empty".to_owned());
    }
    Ok((value, text.get(end..).unwrap_or_default()))
}

impl fmt::Display for Dn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, relative) in self.0.iter().rev().enumerate() {
            for (place, (kind, value)) in relative.iter().enumerate() {
                match (number, place) {
                    (0, 0) => {}
                    (_, 0) => out.write_str(",")?,
                    _ => out.write_str("+")?,
                }
                let keyword = KEYWORDS.iter().find(|(_, known)| known == kind).map_or(kind.as_str(), |(word, _)| *word);
                write!(out, "{keyword}=")?;
                match value.strip_prefix('\0') {
                    Some(bytes) => write!(out, "#{bytes}")?,
                    None => escaped(value, out)?,
                }
            }
        }
        Ok(())
    }
}

/// RFC 4514 §2.4; control characters too, so that a name is one line.
fn escaped(value: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = value.char_indices().last().map_or(0, |(at, _)| at);
    for (at, character) in value.char_indices() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(out, "\\{character}")?,
            '#' if at == 0 => out.write_str("\\#")?,
            ' ' if at == 0 || at == last => out.write_str("\\ ")?,
            character if character.is_control() => {
                let mut space = [0; 4];
                character.encode_utf8(&mut space).bytes().try_for_each(|byte| write!(out, "\\{byte:02x}"))?;
            }
            other => write!(out, "{other}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_in_one_form() {
        for (text, form) in [
            ("CN=app,O=Example", "CN=app,O=Example"),
            ("cn = app , o=Example Inc ", "CN=app,O=Example Inc"),
            ("2.5.4.3=app", "CN=app"),
            ("1.2.3.4=x", "1.2.3.4=x"),
            (r"CN=a\,b,O=x\+y", r"CN=a\,b,O=x\+y"),
            (r"CN=\20a\20", r"CN=\ a\ "),
            (r"CN=caf\c3\a9", "CN=caf\u{e9}"),
            (r"CN=\#a\0a", r"CN=\#a\0a"),
            ("OU=x+CN=a,O=y", "OU=x+CN=a,O=y"),
        ] {
            let name = Dn::parse(text).unwrap();
            assert_eq!(name.to_string(), form);
            assert_eq!(Dn::parse(form).unwrap(), name);
        }
        assert_eq!(Dn::parse("O=x,CN=b,CN=a").unwrap().common_name(), Some("b"));
    }

    #[test]
    fn order_and_place_matter_but_not_within_one_part() {
        let same = |one: &str, other: &str| Dn::parse(one).unwrap() == Dn::parse(other).unwrap();
        assert!(same("CN=a+OU=b", "OU=b+CN=a"));
        for (one, other) in [("CN=a,O=b", "O=b,CN=a"), (r"CN=a\,O=b", "CN=a,O=b"), ("CN=a+O=b", "CN=a,O=b")] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "app", "CN=", "CN=a,", "X=a", "CN=a;O=b", r"CN=a\", r"CN=\c3", "CN=\"a\""] {
            assert!(Dn::parse(text).is_err(), "{text}");
        }
    }
}
