//! The canonical path: one spelling for every path, used by select, policies, records and upstreams.
//!
//! Two parties that spell a path differently can be played against each other: a rule denies `/admin`,
//! the upstream serves `/%61dmin`. So a path is normalised once (RFC 3986 §6.2.2 and §5.2.4), the result
//! is both matched and forwarded, and what different servers read differently is refused. It does not
//! look at queries, and does not restore what the client wrote: that stays with the request line.

use std::borrow::Cow;

/// A path in its one spelling: starts with `/`, no dot segments, no empty segments but a last one,
/// unreserved characters plain, remaining escapes upper-case, valid UTF-8 once decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath(String);

/// Why a path has no safe spelling (`400 request.path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with `/`.
    Relative,
    /// A `%` without two hexadecimal digits.
    BadEscape,
    /// `%2F`, `%5C` or a raw `\`: a separator to some servers and none to others.
    HiddenSeparator,
    /// A control character, raw or encoded.
    Control,
    /// A character that a path cannot carry unescaped (RFC 3986 §3.3).
    Character,
    /// An encoded escape (`%252e`), which a second decoder would decode.
    DoubleEncoding,
    /// Escapes that are not valid UTF-8, overlong forms among them.
    NotUtf8,
    /// Parameters on a dot segment (`..;x`), which some servers cut before resolving it.
    DotParameter,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            PathError::Relative => "a path must start with \"/\"",
            PathError::BadEscape => "\"%\" must be followed by two hexadecimal digits",
            PathError::HiddenSeparator => "an encoded \"/\" or a backslash is ambiguous: use plain \"/\"",
            PathError::Control => "control characters are not allowed in a path",
            PathError::Character => "a character that a path cannot carry: escape it as %XX",
            PathError::DoubleEncoding => "an escape was escaped again: encode once",
            PathError::NotUtf8 => "escapes must decode to valid UTF-8",
            PathError::DotParameter => "\".\" and \"..\" cannot have parameters",
        })
    }
}

impl std::error::Error for PathError {}

impl CanonicalPath {
    /// The one spelling of `raw`, the path of a request target without its query.
    ///
    /// Slashes are merged before dot segments are resolved, so `/a//../b` is `/b`. `..` at the root stays there.
    pub fn parse(raw: &str) -> Result<CanonicalPath, PathError> {
        canonical(raw).map(|path| CanonicalPath(path.into_owned()))
    }

    /// The path `/`.
    pub fn root() -> CanonicalPath {
        CanonicalPath("/".to_owned())
    }

    /// What is matched and forwarded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, still escaped: none for `/`, and a last empty one when the path ends with `/`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let inner = self.0.strip_prefix('/').filter(|rest| !rest.is_empty());
        inner.into_iter().flat_map(|rest| rest.split('/'))
    }
}

impl AsRef<str> for CanonicalPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CanonicalPath {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Decodes the escapes of one segment of a canonical path.
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escaped(bytes, at).filter(|_| byte == b'%') {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8(decoded) {
        Ok(text) => Cow::Owned(text),
        // Cannot happen for a canonical path; another text is better shown as it came than mangled.
        Err(_) => Cow::Borrowed(segment),
    }
}

/// The canonical spelling, borrowed when `raw` already has it.
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::Relative);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let out = normalise(raw.as_bytes())?;
    if hides_escape(out.as_bytes()) {
        return Err(PathError::DoubleEncoding);
    }
    Ok(Cow::Owned(out))
}

/// Whether nothing has to be looked at twice: only path characters, no escapes, no segment that is
/// empty or starts with a dot.
fn is_plain(bytes: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in bytes {
        if !is_path_byte(byte) || (after_slash && matches!(byte, b'/' | b'.')) {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

fn normalise(raw: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(raw.len());
    out.push('/');
    let mut start = out.len(); // of the segment that is being written
    let mut at = 1;
    while let Some(&byte) = raw.get(at) {
        match byte {
            b'/' => {
                end_segment(&mut out, start, true)?;
                start = out.len();
                at += 1;
            }
            b'%' => at = copy_escape(raw, at, &mut out)?,
            b'\\' => return Err(PathError::HiddenSeparator),
            _ if byte.is_ascii_control() => return Err(PathError::Control),
            _ if is_path_byte(byte) => {
                out.push(char::from(byte));
                at += 1;
            }
            _ => return Err(PathError::Character),
        }
    }
    end_segment(&mut out, start, false)?;
    Ok(out)
}

/// Ends the segment that begins at `start`; afterwards `out` ends with `/` unless it was the last one.
fn end_segment(out: &mut String, start: usize, more: bool) -> Result<(), PathError> {
    let segment = out.get(start..).unwrap_or_default();
    let name = segment.split(';').next().unwrap_or_default();
    let name = name.split("%3B").next().unwrap_or_default();
    if name.len() != segment.len() && matches!(name, "." | "..") {
        return Err(PathError::DotParameter);
    }
    match segment {
        "" => {}
        "." => out.truncate(start),
        ".." => {
            out.truncate(start.saturating_sub(1));
            let parent = out.rfind('/').unwrap_or(0);
            out.truncate(parent);
            out.push('/');
        }
        _ if more => out.push('/'),
        _ => {}
    }
    Ok(())
}

/// Copies the escape at `at` in its canonical form and says where the text goes on.
fn copy_escape(raw: &[u8], at: usize, out: &mut String) -> Result<usize, PathError> {
    let value = escaped(raw, at).ok_or(PathError::BadEscape)?;
    match value {
        b'/' | b'\\' => Err(PathError::HiddenSeparator),
        _ if value.is_ascii_control() => Err(PathError::Control),
        _ if is_unreserved(value) => {
            out.push(char::from(value));
            Ok(at + 3)
        }
        _ if value.is_ascii() => {
            push_escape(out, value);
            Ok(at + 3)
        }
        _ => copy_character(raw, at, value, out),
    }
}

/// Copies the escapes of one character outside ASCII.
fn copy_character(raw: &[u8], at: usize, lead: u8, out: &mut String) -> Result<usize, PathError> {
    let length = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Err(PathError::NotUtf8),
    };
    let mut encoded = [0u8; 4];
    for (index, byte) in encoded.iter_mut().take(length).enumerate() {
        *byte = escaped(raw, at + 3 * index).ok_or(PathError::NotUtf8)?;
    }
    let encoded = encoded.get(..length).unwrap_or_default();
    if std::str::from_utf8(encoded).is_err() {
        return Err(PathError::NotUtf8);
    }
    encoded.iter().for_each(|&byte| push_escape(out, byte));
    Ok(at + 3 * length)
}

fn push_escape(out: &mut String, value: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    for nibble in [value >> 4, value & 15] {
        out.push(DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from));
    }
}

/// Whether an escaped `%` is followed by what would make it an escape again.
fn hides_escape(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|window| match window {
        [b'%', b'2', b'5', high, low] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    })
}

/// The value of the escape `%XX` that stands at `at`.
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    match bytes.get(at..at.checked_add(3)?)? {
        [b'%', high, low] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand unescaped in a path: `pchar` without `%`, and `/` (RFC 3986 §3.3).
fn is_path_byte(byte: u8) -> bool {
    let is_delimiter = matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/'
    );
    is_unreserved(byte) || is_delimiter
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str) -> Result<String, PathError> {
        CanonicalPath::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn every_known_way_to_slip_past_a_rule_is_normalised_or_refused() {
        use PathError::*;
        let table: &[(&str, Result<&str, PathError>)] = &[
            ("/", Ok("/")),
            ("/admin", Ok("/admin")),
            ("//admin", Ok("/admin")),
            ("///a//b///", Ok("/a/b/")),
            ("/./admin", Ok("/admin")),
            ("/public/../admin", Ok("/admin")),
            ("/public/%2e%2e/admin", Ok("/admin")),
            ("/public/%2E./admin", Ok("/admin")),
            ("/public/.%2e/admin", Ok("/admin")),
            ("/a/b/..", Ok("/a/")),
            ("/a/b/.", Ok("/a/b/")),
            ("/../../admin", Ok("/admin")),
            ("/a//../b", Ok("/b")),
            ("/%61dmin", Ok("/admin")),
            ("/a%3ab", Ok("/a%3Ab")),
            ("/caf%c3%a9", Ok("/caf%C3%A9")),
            ("/...", Ok("/...")),
            ("/.hidden", Ok("/.hidden")),
            ("/a;v=1/b", Ok("/a;v=1/b")),
            ("/100%25", Ok("/100%25")),
            ("/public%2f..%2fadmin", Err(HiddenSeparator)),
            ("/public%5c..%5cadmin", Err(HiddenSeparator)),
            ("/public\\..\\admin", Err(HiddenSeparator)),
            ("/%252e%252e/admin", Err(DoubleEncoding)),
            ("/%25%32%65/admin", Err(DoubleEncoding)),
            ("/admin%00.html", Err(Control)),
            ("/admin%0d%0a", Err(Control)),
            ("/admin%7f", Err(Control)),
            ("/a\tb", Err(Control)),
            ("/%c0%ae%c0%ae/admin", Err(NotUtf8)),
            ("/%e0%80%ae/admin", Err(NotUtf8)),
            ("/%ed%a0%80", Err(NotUtf8)),
            ("/%ff", Err(NotUtf8)),
            ("/%c3", Err(NotUtf8)),
            ("/public/..;/admin", Err(DotParameter)),
            ("/public/..;x=1/admin", Err(DotParameter)),
            ("/public/%2e%2e;/admin", Err(DotParameter)),
            ("/public/..%3b/admin", Err(DotParameter)),
            ("/.;/admin", Err(DotParameter)),
            ("/%", Err(BadEscape)),
            ("/%2", Err(BadEscape)),
            ("/%zz", Err(BadEscape)),
            ("/%+1", Err(BadEscape)),
            ("/a b", Err(Character)),
            ("/a|b", Err(Character)),
            ("/a{b}", Err(Character)),
            ("/caf\u{e9}", Err(Character)),
            ("", Err(Relative)),
            ("admin", Err(Relative)),
            ("*", Err(Relative)),
        ];
        for (raw, expected) in table {
            assert_eq!(check(raw), expected.map(str::to_owned), "{raw:?}");
        }
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        assert!(matches!(canonical("/v1/orders/17"), Ok(Cow::Borrowed(_))));
        assert!(matches!(canonical("/v1//orders"), Ok(Cow::Owned(_))));
    }

    #[test]
    fn segments_tell_a_trailing_slash_and_decode() {
        let segments = |raw| CanonicalPath::parse(raw).unwrap().segments().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("/a/b"), ["a", "b"]);
        assert_eq!(segments("/a/"), ["a", ""]);
        assert_eq!(decode_segment("caf%C3%A9%20x"), "caf\u{e9} x");
        assert_eq!(decode_segment("plain"), "plain");
        assert_eq!(decode_segment("100%25"), "100%");
    }

    proptest! {
        #[test]
        fn parsing_twice_changes_nothing(raw in "/([a-c./;%]|%2[0-9a-fE]|%25|%3[bB]|%c3%a9|//|\\.\\.){0,24}") {
            if let Ok(once) = check(&raw) {
                prop_assert_eq!(check(&once), Ok(once.clone()));
                prop_assert!(!once.contains("//"));
                prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }

        #[test]
        fn any_text_is_answered(raw in "\\PC{0,40}") {
            if let Ok(once) = check(&raw) {
                prop_assert_eq!(check(&once), Ok(once.clone()));
            }
        }
    }
}
