//! Card numbers in texts: 13 to 19 digits, with or without separators, an issuer's prefix and the check digit.
//!
//! ISO/IEC 7812-1 (the Luhn formula of annex B). A match may still be another number: one in ten of the right
//! length and prefix passes the check.

use std::ops::Range;

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
/// Digits that stay in front and behind (PCI DSS 3.4.1).
const SHOWN_FIRST: usize = 6;
const SHOWN_LAST: usize = 4;

/// First digits of the schemes in use, as ranges of numbers with the same count of digits.
const PREFIXES: [(u32, u32); 14] = [
    (4, 4),
    (51, 55),
    (2221, 2720),
    (34, 34),
    (37, 37),
    (6011, 6011),
    (644, 649),
    (65, 65),
    (3528, 3589),
    (300, 305),
    (36, 36),
    (38, 39),
    (62, 62),
    (56, 69),
];

/// Places in a text that hold nothing but card numbers; numbers that overlap share one.
pub fn find(text: &str) -> Vec<Range<usize>> {
    let mut places: Vec<Range<usize>> = Vec::new();
    for card in cards(text) {
        match places.last_mut() {
            Some(last) if card.start < last.end => last.end = last.end.max(card.end),
            _ => places.push(card),
        }
    }
    places
}

/// All card numbers, in the order of their first digits: whoever reads the text may mean any of them.
fn cards(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut groups: Vec<Range<usize>> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at > begin {
            let follows = groups.last().is_some_and(|last| last.end + 1 == begin);
            let separated = begin > 0 && matches!(bytes.get(begin - 1), Some(b' ' | b'-'));
            if !(follows && separated) {
                in_groups(text, &groups, &mut found);
                groups.clear();
            }
            groups.push(begin..at);
        } else {
            at += 1;
        }
    }
    in_groups(text, &groups, &mut found);
    found
}

/// Card numbers that begin and end at the ends of groups of digits.
fn in_groups(text: &str, groups: &[Range<usize>], found: &mut Vec<Range<usize>>) {
    for (first, start) in groups.iter().enumerate() {
        let mut length = 0;
        for group in groups.iter().skip(first) {
            length += group.len();
            if length > DIGITS_MAX {
                break;
            }
            let range = start.start..group.end;
            if length >= DIGITS_MIN && text.get(range.clone()).is_some_and(is_card) {
                found.push(range);
            }
        }
    }
}

fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|char| char.to_digit(10)).collect();
    let begins = |prefix: u32| {
        let count = prefix.to_string().len();
        digits.iter().take(count).fold(0, |number, digit| number * 10 + digit)
    };
    let issued = PREFIXES.iter().any(|(low, high)| (*low..=*high).contains(&begins(*low)));
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 0 { *digit } else { doubled(*digit) })
        .sum();
    issued && sum.is_multiple_of(10)
}

fn doubled(digit: u32) -> u32 {
    let twice = digit * 2;
    if twice > 9 { twice - 9 } else { twice }
}

/// One of the places of [`find`] with the first six and last four digits of each number; separators stay.
///
/// What several numbers share is shown only where all of them show it. Digits that are left may make a new number
/// with each other or with what stands around them: see [`mask_whole`].
pub fn mask(place: &str) -> String {
    let mut hidden = vec![false; place.len()];
    for card in cards(place) {
        let digits: Vec<usize> = card.filter(|at| place.as_bytes().get(*at).is_some_and(u8::is_ascii_digit)).collect();
        let shown_to = digits.len().saturating_sub(SHOWN_LAST);
        for at in digits.get(SHOWN_FIRST..shown_to).unwrap_or_default() {
            if let Some(hidden) = hidden.get_mut(*at) {
                *hidden = true;
            }
        }
    }
    let hides = |at| hidden.get(at).copied().unwrap_or_default();
    place.char_indices().map(|(at, char)| if hides(at) { '*' } else { char }).collect()
}

/// The same without any digit, so that none can be part of another number.
pub fn mask_whole(place: &str) -> String {
    place.chars().map(|char| if char.is_ascii_digit() { '*' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        find(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn card_numbers_are_found_in_their_spellings() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5500-0000-0000-0004",
            "340000000000009",
            "6011000000000004",
            "30000000000004",
            "2223000048400011",
            "4222222222222",
        ] {
            assert_eq!(found(card), [card]);
            assert_eq!(found(&format!("id 12 {card}, x")), [card]);
        }
        assert_eq!(found("4111111111111111 5500000000000004"), ["4111111111111111", "5500000000000004"]);
    }

    #[test]
    fn other_numbers_are_left() {
        for text in [
            "4111111111111112",
            "9111111111111111",
            "41111111111111111111111",
            "4111  1111 1111 1111",
            "411111111111",
            "é-",
            "",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn first_six_and_last_four_stay() {
        assert_eq!(mask("4111 1111 1111 1111"), "4111 11** **** 1111");
        assert_eq!(mask("4222222222222"), "422222***2222");
        assert_eq!(mask_whole("4222-222222222"), "****-*********");
    }

    #[test]
    fn numbers_that_overlap_are_all_found() {
        let both = "4000 0000 0000 4111 1111 1111 1111";
        assert_eq!(cards(both).len(), 2);
        assert_eq!(found(both), [both]);
        assert_eq!(mask(both), "4000 00** **** 4111 11** **** 1111");
        // One in the other: 4222222222222, and with six more digits behind it.
        let nested = "4222222222222 000000";
        assert_eq!(cards(nested), [0..13, 0..20]);
        assert_eq!(mask(nested), "422222******* **0000");
    }
}
