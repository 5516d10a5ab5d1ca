//! Whole words of a list, found with one automaton however long the list is.
//!
//! Text and entries are made comparable first: NFKC (UAX #15), full case folding, characters that nobody sees
//! dropped, white space as one blank. Then a boundary is put between words and everything else, so that the
//! automaton finds whole words only and a search is linear in the text.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Stands where a word begins or ends. The text itself never holds it.
const BOUNDARY: char = '\0';
/// Stands for a NUL of the text.
const INSTEAD: char = char::REPLACEMENT_CHARACTER;

/// Characters that nobody sees (Unicode 16, `Default_Ignorable_Code_Point`): they would hide a word.
const UNSEEN: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The automaton of one list.
pub(super) struct Words(AhoCorasick);

/// A word that was found.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// As it stands in the comparable text.
    pub text: String,
    /// Characters of the comparable text before it.
    pub start: usize,
}

/// Why a list cannot be searched for.
#[derive(Debug)]
pub(super) enum Unusable {
    /// An entry in which nothing can be seen would be found everywhere.
    Blank(String),
    TooLarge(BuildError),
}

impl Words {
    /// Builds the automaton.
    pub(super) fn new<'e>(entries: impl Iterator<Item = &'e str>) -> Result<Words, Unusable> {
        let mut patterns = Vec::new();
        for entry in entries {
            let pattern = comparable(entry.trim());
            if pattern.is_empty() {
                return Err(Unusable::Blank(entry.to_owned()));
            }
            patterns.push(pattern);
        }
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest).build(patterns).map(Words).map_err(Unusable::TooLarge)
    }

    /// Whether a word of the list stands in the text.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        self.0.is_match(&comparable(text))
    }

    /// The first word of the list in the text, the longest of several at one place.
    pub(super) fn find(&self, text: &str) -> Option<Found> {
        let text = comparable(text);
        let found = self.0.find(&text)?;
        let seen = |part: &str| part.chars().filter(|char| *char != BOUNDARY).collect::<String>();
        let start = seen(text.get(..found.start())?).chars().count();
        Some(Found { text: seen(text.get(found.range())?), start })
    }
}

/// The text in the form that is compared, with boundaries around its words.
fn comparable(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    if text.is_ascii() {
        with_boundaries(text.chars().map(|char| char.to_ascii_lowercase()), &mut out);
        return out;
    }
    // Through upper case: `ß` and `SS` fold to the same, and so does `ẞ` by its lower case. Folding may leave a form
    // that is not normal.
    let seen = text.nfkc().filter(|char| !is_unseen(*char));
    let folded = seen.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let normal: String = folded.collect::<String>().nfkc().collect();
    with_boundaries(normal.chars(), &mut out);
    out
}

fn with_boundaries(text: impl Iterator<Item = char>, out: &mut String) {
    let (mut in_word, mut blank) = (false, false);
    for char in text {
        let is_word = char.is_alphanumeric() || char == '_' || is_combining_mark(char);
        if is_word != in_word {
            out.push(BOUNDARY);
        }
        in_word = is_word;
        let is_blank = char.is_whitespace();
        match char {
            _ if is_blank && blank => {}
            _ if is_blank => out.push(' '),
            BOUNDARY => out.push(INSTEAD),
            char => out.push(char),
        }
        blank = is_blank;
    }
    if in_word {
        out.push(BOUNDARY);
    }
}

fn is_unseen(char: char) -> bool {
    UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entries: &[&str]) -> Words {
        Words::new(entries.iter().copied()).unwrap_or_else(|_| panic!("{entries:?}"))
    }

    #[test]
    fn only_whole_words_count() {
        let words = words(&["acme", "J. Doe", "+49"]);
        for text in ["Acme", "the ACME corp", "acme's", "(acme)", "by J.  Doe.", "call +49 now", "x+49"] {
            assert!(words.stand_in(text), "{text}");
        }
        for text in ["acmeist", "xacme", "acme2", "acme_", "", "J.Doe", "+491"] {
            assert!(!words.stand_in(text), "{text}");
        }
    }

    #[test]
    fn spellings_that_read_alike_are_one() {
        let words = words(&["Straße", "Müller", "finance", "ΟΔΟΣ"]);
        for text in [
            "STRASSE",
            "strasse",
            "STRAẞE",
            "mu\u{308}ller",
            "ﬁnance",
            "ｆｉｎａｎｃｅ",
            "οδος",
            "οδοσ",
            "fi\u{200b}nan\u{ad}ce",
        ] {
            assert!(words.stand_in(text), "{text}");
        }
        // A letter with a mark is another letter.
        assert!(!words.stand_in("muller") && !words.stand_in("finance\u{301}"));
    }

    #[test]
    fn the_longest_word_is_found_and_where() {
        let words = words(&["jo", "jo ann", "ann"]);
        assert_eq!(words.find("hi, Jo Ann!"), Some(Found { text: "jo ann".into(), start: 4 }));
        assert_eq!(words.find("hi"), None);
    }

    #[test]
    fn no_character_of_a_text_is_a_boundary() {
        let words = words(&["acme", "\0"]);
        assert!(words.stand_in("x\0acme") && words.stand_in("\0") && !words.stand_in("xacme"));
    }

    #[test]
    fn a_blank_entry_is_refused() {
        assert!(matches!(Words::new([" \u{200b}"].into_iter()), Err(Unusable::Blank(_))));
        assert!(!words(&[]).stand_in("anything"));
    }
}
