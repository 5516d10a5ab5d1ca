//! Where a value is written decides how it is escaped.
//!
//! A value that a client chose must not end the text around it: close a JSON string, add a query
//! parameter, climb out of a path. Header fields are the exception: nothing can be escaped there (RFC 9110
//! §5.5), so the value is written raw and whoever sets the field refuses CR, LF and NUL.

/// The kind of text that `${...}` stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Written as it is.
    Plain,
    /// Written as it is; the assertion that sets the field refuses what no field may hold.
    HeaderValue,
    /// One segment of a URL path: percent-encoded, the slash too. A segment `.` or `..` is a fault.
    PathSegment,
    /// Several segments: as [`Place::PathSegment`], but slashes are kept.
    PathRest,
    /// A value in a URL query: percent-encoded.
    QueryValue,
    /// Inside of the quotes of a JSON string.
    JsonString,
    /// XML text or a quoted attribute value.
    Xml,
    /// A value of an `application/x-www-form-urlencoded` body.
    FormValue,
}

impl Place {
    /// Whether the text becomes a URL path.
    pub(super) fn is_path(self) -> bool {
        matches!(self, Place::PathSegment | Place::PathRest)
    }

    /// Whether nothing needs to be escaped.
    pub(super) fn is_raw(self) -> bool {
        matches!(self, Place::Plain | Place::HeaderValue)
    }
}

/// Appends a text so that it stays one value in its place.
pub fn escape(place: Place, text: &str, out: &mut String) {
    match place {
        Place::Plain | Place::HeaderValue => out.push_str(text),
        // Only unreserved characters stay (RFC 3986 §2.3): sub-delimiters mean something to some servers.
        Place::PathSegment | Place::QueryValue => percent(text, out, is_unreserved),
        Place::PathRest => percent(text, out, |byte| byte == b'/' || is_unreserved(byte)),
        Place::FormValue => form(text, out),
        Place::JsonString => text.chars().for_each(|char| json(char, out)),
        Place::Xml => text.chars().for_each(|char| xml(char, out)),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn percent(text: &str, out: &mut String, keeps: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if keeps(byte) { out.push(byte.into()) } else { percent_byte(byte, out) }
    }
}

/// Application/x-www-form-urlencoded (WHATWG URL §5): a space is a plus.
fn form(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' => out.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            _ => percent_byte(byte, out),
        }
    }
}

fn percent_byte(byte: u8, out: &mut String) {
    out.push('%');
    out.push(digit(byte >> 4));
    out.push(digit(byte));
}

/// The hexadecimal digit of the lower half of a byte.
fn digit(half: u8) -> char {
    char::from_digit(u32::from(half & 0xF), 16).unwrap_or('0').to_ascii_uppercase()
}

/// JSON string contents (RFC 8259 §7); also the line separators that end a line in JavaScript.
fn json(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '\x7f' => {
            out.push_str("\\u00");
            // One byte: the arm says so.
            out.push(digit((u32::from(char) >> 4) as u8));
            out.push(digit(u32::from(char) as u8));
        }
        '\u{2028}' => out.push_str("\\u2028"),
        '\u{2029}' => out.push_str("\\u2029"),
        _ => out.push(char),
    }
}

/// XML 1.0 character data (§2.4) and attribute values (§3.3.3: white space as references, else it is
/// normalised away). Characters that XML cannot hold at all (§2.2) become U+FFFD.
fn xml(char: char, out: &mut String) {
    match char {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&apos;"),
        '\t' => out.push_str("&#9;"),
        '\n' => out.push_str("&#10;"),
        '\r' => out.push_str("&#13;"),
        '\0'..='\x1f' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
        _ => out.push(char),
    }
}

/// Whether a path has a segment `.` or `..`, plain or percent-encoded: it would leave its place
/// (RFC 3986 §5.2.4), and no escape can prevent that.
pub(super) fn has_dot_segment(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    path.split('/').any(|segment| {
        segment.len() <= "%2e%2e".len()
            && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(place: Place, text: &str) -> String {
        let mut out = String::new();
        escape(place, text, &mut out);
        out
    }

    #[test]
    fn hostile_values_stay_one_value() {
        let hostile = "a/../b?x=1&y=\"'<é>\\%2F#\r\n\0 +";
        assert_eq!(written(Place::Plain, hostile), hostile);
        assert_eq!(written(Place::HeaderValue, hostile), hostile);
        assert_eq!(
            written(Place::PathSegment, hostile),
            "a%2F..%2Fb%3Fx%3D1%26y%3D%22%27%3C%C3%A9%3E%5C%252F%23%0D%0A%00%20%2B"
        );
        assert_eq!(
            written(Place::PathRest, hostile),
            "a/../b%3Fx%3D1%26y%3D%22%27%3C%C3%A9%3E%5C%252F%23%0D%0A%00%20%2B"
        );
        assert_eq!(written(Place::QueryValue, hostile), written(Place::PathSegment, hostile));
        assert_eq!(
            written(Place::FormValue, hostile),
            "a%2F..%2Fb%3Fx%3D1%26y%3D%22%27%3C%C3%A9%3E%5C%252F%23%0D%0A%00+%2B"
        );
        assert_eq!(written(Place::JsonString, hostile), "a/../b?x=1&y=\\\"'<é>\\\\%2F#\\r\\n\\u0000 +");
        assert_eq!(written(Place::Xml, hostile), "a/../b?x=1&amp;y=&quot;&apos;&lt;é&gt;\\%2F#&#13;&#10;\u{FFFD} +");
    }

    #[test]
    fn json_strings_read_back() {
        let all: String = ('\0'..='\u{2030}').collect();
        let text = format!("\"{}\"", written(Place::JsonString, &all));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), all);
        assert!(text.contains("\\u001F") && text.contains("\\u007F"));
    }

    #[test]
    fn dot_segments_are_seen() {
        for path in ["..", "/a/../b", "/a/.", "http://h/a/%2e%2E", "/.%2e/x", "./x?y"] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in ["", "/a..b/...", "/a?x=../y", "/%2e%2e%2e", "/.well-known"] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
