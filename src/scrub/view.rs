//! A text as it stands, or as whoever decodes it reads it (RFC 3986 §2.1, forms of the URL standard §5.1).
//!
//! Nothing is refused here: what is no escape stands for itself, as it does for lenient readers. Bytes that are no
//! UTF-8 read as `?`.

use std::ops::Range;

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    AsWritten,
    /// `%XX` is a byte.
    Percent,
    /// Also `+` is a space.
    Form,
}

/// A reading of a text.
pub(super) struct View<'t> {
    text: &'t str,
    decoded: Option<Decoded>,
}

struct Decoded {
    text: String,
    /// For each byte of `text` where it begins in what was decoded, and for its end.
    begins: Vec<usize>,
}

impl<'t> View<'t> {
    /// `None` where the reading is the text as written, which is a view of its own.
    pub(super) fn of(text: &'t str, reading: Reading) -> Option<View<'t>> {
        let differs = match reading {
            Reading::AsWritten => return Some(View { text, decoded: None }),
            Reading::Percent => text.contains('%'),
            Reading::Form => text.contains('+'),
        };
        differs.then(|| View { text, decoded: Some(Decoded::of(text, reading == Reading::Form)) })
    }

    /// What is read.
    pub(super) fn text(&self) -> &str {
        self.decoded.as_ref().map_or(self.text, |decoded| &decoded.text)
    }

    /// Whether what is put into the text must be encoded.
    pub(super) fn is_decoded(&self) -> bool {
        self.decoded.is_some()
    }

    /// The place in the text of a place in what is read.
    pub(super) fn written(&self, place: &Range<usize>) -> Range<usize> {
        let Some(decoded) = &self.decoded else { return place.clone() };
        let begin = |at: usize| decoded.begins.get(at).copied().unwrap_or(self.text.len());
        begin(place.start)..begin(place.end)
    }
}

/// A name or value of a form.
pub(super) fn decoded(text: &str) -> String {
    Decoded::of(text, true).text
}

impl Decoded {
    fn of(text: &str, plus_is_space: bool) -> Decoded {
        let bytes = text.as_bytes();
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let mut read = Vec::with_capacity(bytes.len());
        let mut begins = Vec::with_capacity(bytes.len() + 1);
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            begins.push(at);
            let escaped = digit(at + 1).zip(digit(at + 2)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            match (byte, escaped) {
                (b'%', Some(escaped)) => {
                    read.push(escaped);
                    at += 3;
                }
                (b'+', _) if plus_is_space => {
                    read.push(b' ');
                    at += 1;
                }
                _ => {
                    read.push(*byte);
                    at += 1;
                }
            }
        }
        begins.push(at);
        let text = String::from_utf8(read).unwrap_or_else(|error| one_for_one(error.as_bytes()));
        Decoded { text, begins }
    }
}

/// A text of as many bytes.
fn one_for_one(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_what_was_written() {
        for (text, reading, read) in [
            ("/a%20b%C3%A9", Reading::Percent, "/a bé"),
            ("/a+%zz%2", Reading::Percent, "/a+%zz%2"),
            ("/%ff%C3%A9%c3", Reading::Percent, "/?é?"),
            ("a+b%2Bc", Reading::Form, "a b+c"),
        ] {
            let view = View::of(text, reading).unwrap();
            assert_eq!(view.text(), read);
            assert_eq!(view.written(&(0..read.len())), 0..text.len());
        }
        let view = View::of("/a%20bc", Reading::Percent).unwrap();
        assert_eq!((view.written(&(2..3)), view.written(&(3..4))), (2..5, 5..6));
        assert!(View::of("/a+b", Reading::Percent).is_none() && View::of("/a%20b", Reading::Form).is_none());
    }
}
