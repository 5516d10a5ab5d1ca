//! Text forms of bytes, read strictly: what two readers could take differently is refused.
//!
//! RFC 4648 §3.2–3.5 (no white space inside, right padding, no bits behind the last byte), RFC 3986 §2.1, XML
//! 1.0 §2.2 and §4.1, RFC 8259 §7. It does not know where a value comes from or whose fault a bad one is.

use std::fmt::Write;
use std::net::IpAddr;

use data_encoding::{BASE32, BASE64, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use schemars::JsonSchema;
use serde::Deserialize;

/// How bytes stand in a text.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5; written without padding, read with or without.
    Base64url,
    /// RFC 4648 §6, padded, upper case.
    Base32,
    /// RFC 4648 §8; written in lower case, read in any.
    Hex,
    /// RFC 3986: all but unreserved characters as `%XX`; `+` is a plus.
    Url,
    /// Character data and attribute values of XML.
    Xml,
    /// What stands between the quotes of a JSON string.
    JsonString,
}

/// Writes an address; that of IPv4, which nearly every request has, without the machinery of a format.
pub fn write_ip(ip: IpAddr, out: &mut String) {
    match ip {
        IpAddr::V4(ip) => {
            out.reserve("255.255.255.255".len());
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                out.push_str(itoa::Buffer::new().format(octet));
            }
        }
        IpAddr::V6(ip) => {
            // A text takes whatever is written to it.
            let _ = write!(out, "{ip}");
        }
    }
}

impl Encoding {
    /// Whether any bytes can be written; the others write text only.
    fn takes_bytes(self) -> bool {
        !matches!(self, Encoding::Xml | Encoding::JsonString)
    }

    /// Writes bytes as text; the error says why that is not possible.
    pub fn encode(self, bytes: &[u8]) -> Result<String, String> {
        if !self.takes_bytes() {
            let text = std::str::from_utf8(bytes).map_err(|_| "bytes that are no UTF-8 have no such form")?;
            let mut out = String::with_capacity(text.len());
            match self {
                Encoding::Xml => text.chars().try_for_each(|char| xml(char, &mut out))?,
                _ => text.chars().for_each(|char| json(char, &mut out)),
            }
            return Ok(out);
        }
        Ok(match self {
            Encoding::Base64 => BASE64.encode(bytes),
            Encoding::Base64url => BASE64URL_NOPAD.encode(bytes),
            Encoding::Base32 => BASE32.encode(bytes),
            Encoding::Hex => HEXLOWER.encode(bytes),
            _ => percent(bytes),
        })
    }

    /// Reads text back; the error says what is wrong, and never shows the text.
    pub fn decode(self, text: &[u8]) -> Result<Vec<u8>, String> {
        let decoded = match self {
            Encoding::Base64 => BASE64.decode(text),
            Encoding::Base64url if text.contains(&b'=') => BASE64URL.decode(text),
            Encoding::Base64url => BASE64URL_NOPAD.decode(text),
            Encoding::Base32 => BASE32.decode(text),
            Encoding::Hex => HEXLOWER_PERMISSIVE.decode(text),
            Encoding::Url => return unpercent(text),
            Encoding::Xml => return unxml(as_text(text)?),
            Encoding::JsonString => return unjson(as_text(text)?),
        };
        decoded.map_err(|error| error.to_string())
    }
}

fn as_text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn percent(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(*byte)),
            // Writing to a String cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn unpercent(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => out.extend(u8::try_from(high << 4 | low)),
                _ => return Err("a `%` without two hexadecimal digits".to_owned()),
            },
            byte if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte) => out.push(*byte),
            _ => return Err("a character that no URL holds unescaped".to_owned()),
        }
    }
    Ok(out)
}

/// What XML 1.0 can hold at all (§2.2).
fn is_xml(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn xml(char: char, out: &mut String) -> Result<(), String> {
    match char {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&apos;"),
        // White space of an attribute is normalised away unless it is a reference (§3.3.3).
        '\t' | '\n' | '\r' => drop(write!(out, "&#{};", u32::from(char))),
        char if is_xml(char) => out.push(char),
        _ => return Err("it holds a character that XML cannot".to_owned()),
    }
    Ok(())
}

fn unxml(text: &str) -> Result<Vec<u8>, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        let (before, reference) = rest.split_at(at);
        out.push_str(before);
        let Some((name, behind)) = reference.strip_prefix('&').and_then(|name| name.split_once(';')) else {
            return Err("a `<`, or a `&` that begins no reference".to_owned());
        };
        out.push(referred(name).ok_or("a reference to nothing that XML itself knows")?);
        rest = behind;
    }
    out.push_str(rest);
    match out.chars().all(is_xml) {
        true => Ok(out.into_bytes()),
        false => Err("it holds a character that XML cannot".to_owned()),
    }
}

fn referred(name: &str) -> Option<char> {
    let number = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        name => name.strip_prefix('#')?,
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // `from_str_radix` takes a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix))?;
    number.ok().and_then(char::from_u32)
}

fn json(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // The last two end a line in JavaScript.
        '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => drop(write!(out, "\\u{:04x}", u32::from(char))),
        char => out.push(char),
    }
}

fn unjson(text: &str) -> Result<Vec<u8>, String> {
    let quoted = format!("\"{text}\"");
    let string: Result<String, _> = serde_json::from_str(&quoted);
    string.map(String::into_bytes).map_err(|_| "it is not the inside of a JSON string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 7] = [
        Encoding::Base64,
        Encoding::Base64url,
        Encoding::Base32,
        Encoding::Hex,
        Encoding::Url,
        Encoding::Xml,
        Encoding::JsonString,
    ];

    /// RFC 4648 §10.
    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        let vectors = [
            ("", "", "", ""),
            ("f", "Zg==", "MY======", "66"),
            ("fo", "Zm8=", "MZXQ====", "666f"),
            ("foo", "Zm9v", "MZXW6===", "666f6f"),
            ("foob", "Zm9vYg==", "MZXW6YQ=", "666f6f62"),
            ("fooba", "Zm9vYmE=", "MZXW6YTB", "666f6f6261"),
            ("foobar", "Zm9vYmFy", "MZXW6YTBOI======", "666f6f626172"),
        ];
        for (text, base64, base32, hex) in vectors {
            for (encoding, written) in [(Encoding::Base64, base64), (Encoding::Base32, base32), (Encoding::Hex, hex)] {
                assert_eq!(encoding.encode(text.as_bytes()).unwrap(), written);
                assert_eq!(encoding.decode(written.as_bytes()).unwrap(), text.as_bytes());
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let text: String = (' '..='\u{2030}').chain("\t\r\n\u{10ffff}".chars()).collect();
        let bytes: Vec<u8> = (0..=255).collect();
        for encoding in ALL {
            let written = encoding.encode(text.as_bytes()).unwrap();
            assert_eq!(encoding.decode(written.as_bytes()).unwrap(), text.as_bytes(), "{encoding:?}");
            let written = encoding.encode(&bytes);
            assert_eq!(written.is_ok(), encoding.takes_bytes(), "{encoding:?}");
            assert!(written.map_or(true, |written| encoding.decode(written.as_bytes()).unwrap() == bytes));
        }
        assert_eq!(Encoding::Url.encode("a+b c~é".as_bytes()).unwrap(), "a%2Bb%20c~%C3%A9");
        assert_eq!(Encoding::Url.decode(b"a+b%20c").unwrap(), b"a+b c");
        assert_eq!(Encoding::Base64url.encode(&[0xff, 0xef]).unwrap(), "_-8");
        assert_eq!(Encoding::Base64url.decode(b"_-8=").unwrap(), [0xff, 0xef]);
        assert_eq!(Encoding::Xml.decode(b"&#x41;&#66;&lt;").unwrap(), b"AB<");
        assert_eq!(Encoding::Hex.decode(b"FFef").unwrap(), [0xff, 0xef]);
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let wrong = [
            (Encoding::Base64, "Zg"),
            (Encoding::Base64, "Zh=="),
            (Encoding::Base64, "Zm9v\n"),
            (Encoding::Base64, "Zm 9v"),
            (Encoding::Base64, "_-8="),
            (Encoding::Base64url, "/+8"),
            (Encoding::Base64url, "_-8=="),
            (Encoding::Base64url, "_-9"),
            (Encoding::Base32, "my======"),
            (Encoding::Base32, "MY"),
            (Encoding::Base32, "MZ======"),
            (Encoding::Hex, "abc"),
            (Encoding::Hex, "0x"),
            (Encoding::Url, "%4"),
            (Encoding::Url, "%+1"),
            (Encoding::Url, "a b"),
            (Encoding::Url, "é"),
            (Encoding::Xml, "&nbsp;"),
            (Encoding::Xml, "a & b"),
            (Encoding::Xml, "<b>"),
            (Encoding::Xml, "&#0;"),
            (Encoding::Xml, "&#+65;"),
            (Encoding::Xml, "&#xD800;"),
            (Encoding::JsonString, "a\"b"),
            (Encoding::JsonString, "\\x41"),
            (Encoding::JsonString, "\\ud800"),
            (Encoding::JsonString, "\n"),
            (Encoding::JsonString, "\\"),
        ];
        for (encoding, text) in wrong {
            assert!(encoding.decode(text.as_bytes()).is_err(), "{encoding:?} {text}");
        }
        assert!(Encoding::Xml.encode(b"\x01").is_err());
    }
}
