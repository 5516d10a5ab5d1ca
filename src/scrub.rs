//! Taking sensitive data out of texts, JSON, fields and forms.
//!
//! The rules know no messages and no records: whoever holds one asks for what it is made of. Names of JSON members
//! are not looked at; numbers of changed JSON are written anew.

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use serde_json::Value as Json;

use crate::json_path::Query;
use crate::pan;
use crate::secret::keyed_hash;

/// Stands for what was masked.
const MASK: &str = "***";

/// What is looked for.
#[derive(Clone, Debug)]
pub enum What {
    /// Card numbers.
    Pan,
    /// Everything that a query selects.
    Json(Query),
    Header(HeaderName),
    Query(String),
    Form(String),
    Regex(Regex),
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Mask,
    Remove,
    /// A short keyed hash: equal values stay equal.
    Hash,
}

/// Rules, applied in their order.
#[derive(Clone, Debug)]
pub struct Rules(pub Vec<(What, With)>);

/// Which names of pairs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    Query,
    Form,
}

/// The document has more values than a query may see: it must not pass for scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl With {
    /// What stands in the place of a text.
    pub fn of(self, text: &str) -> String {
        match self {
            With::Mask => MASK.to_owned(),
            With::Remove => String::new(),
            With::Hash => keyed_hash(text.as_bytes()),
        }
    }
}

impl Rules {
    /// Whether they look into bodies.
    pub fn read_bodies(&self) -> bool {
        self.0.iter().any(|(what, _)| matches!(what, What::Pan | What::Json(_) | What::Form(_) | What::Regex(_)))
    }

    /// Whether they look for parts of a JSON document.
    pub fn read_json(&self) -> bool {
        self.0.iter().any(|(what, _)| matches!(what, What::Json(_)))
    }

    /// Scrubs a text; gives the number of places.
    pub fn text(&self, text: &mut String) -> usize {
        let mut count = 0;
        for (what, with) in &self.0 {
            let places = match what {
                What::Pan => pan::find(text),
                What::Regex(regex) => regex.find_iter(text).map(|found| found.range()).collect(),
                _ => continue,
            };
            for place in places.into_iter().rev().filter(|place| !place.is_empty()) {
                let found = text.get(place.clone()).unwrap_or_default();
                let instead = match (what, with) {
                    (What::Pan, With::Mask) => pan::mask(found),
                    _ => with.of(found),
                };
                text.replace_range(place, &instead);
                count += 1;
            }
        }
        count
    }

    /// Scrubs a document: what is selected, and then every text and number in it; gives the number of places.
    pub fn json(&self, json: &mut Json) -> Result<usize, TooLarge> {
        Ok(self.places(json)? + self.leaves(json))
    }

    /// Scrubs only what is selected in a document; gives the number of places.
    pub fn places(&self, json: &mut Json) -> Result<usize, TooLarge> {
        let mut count = 0;
        for (what, with) in &self.0 {
            let What::Json(query) = what else { continue };
            // From the end, so that the places before stay what they are.
            for place in query.pointers(json).ok_or(TooLarge)?.into_iter().rev() {
                count += usize::from(at_place(json, &place, *with));
            }
        }
        Ok(count)
    }

    /// The nesting of what comes here is bounded by its parser.
    fn leaves(&self, json: &mut Json) -> usize {
        match json {
            Json::String(text) => self.text(text),
            Json::Number(number) => {
                let mut text = number.to_string();
                let count = self.text(&mut text);
                if count > 0 {
                    *json = Json::String(text);
                }
                count
            }
            Json::Array(items) => items.iter_mut().map(|item| self.leaves(item)).sum(),
            Json::Object(members) => members.values_mut().map(|member| self.leaves(member)).sum(),
            Json::Null | Json::Bool(_) => 0,
        }
    }

    /// Scrubs fields.
    pub fn headers(&self, headers: &mut HeaderMap) -> usize {
        let mut count = 0;
        for (what, with) in &self.0 {
            let What::Header(name) = what else { continue };
            let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
            count += values.len();
            headers.remove(name);
            for value in values.iter().filter(|_| *with != With::Remove) {
                let instead = HeaderValue::from_str(&with.of(&String::from_utf8_lossy(value.as_bytes())));
                headers.append(name, instead.unwrap_or(HeaderValue::from_static(MASK)));
            }
        }
        count
    }

    /// Scrubs fields that were written down as an object.
    pub fn header_members(&self, members: &mut serde_json::Map<String, Json>) {
        for (what, with) in &self.0 {
            let What::Header(name) = what else { continue };
            if *with == With::Remove {
                members.shift_remove(name.as_str());
            } else if let Some(value) = members.get_mut(name.as_str()) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                *value = Json::String(with.of(&text));
            }
        }
    }

    /// Scrubs name and value pairs of a query or a form; `None` where nothing was found.
    pub fn pairs(&self, encoded: &str, of: Pairs) -> Option<(String, usize)> {
        let mut count = 0;
        let mut kept = Vec::new();
        for pair in encoded.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name);
            let named = self.0.iter().find_map(|(what, with)| match (what, of) {
                (What::Query(wanted), Pairs::Query) | (What::Form(wanted), Pairs::Form) if *wanted == decoded => {
                    Some(*with)
                }
                _ => None,
            });
            let mut value = decode(value);
            let found = match (named, of) {
                (Some(With::Remove), _) => {
                    count += 1;
                    continue;
                }
                (Some(with), _) => {
                    value = with.of(&value);
                    1
                }
                (None, Pairs::Form) => self.text(&mut value),
                (None, Pairs::Query) => 0,
            };
            count += found;
            kept.push(match found {
                0 => pair.to_owned(),
                _ => format!("{name}={}", encode(&value)),
            });
        }
        (count > 0).then(|| (kept.join("&"), count))
    }
}

fn at_place(json: &mut Json, pointer: &str, with: With) -> bool {
    if with != With::Remove {
        let Some(value) = json.pointer_mut(pointer) else { return false };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        *value = Json::String(with.of(&text));
        return true;
    }
    let Some((around, last)) = pointer.rsplit_once('/') else {
        *json = Json::Null;
        return true;
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match json.pointer_mut(around) {
        Some(Json::Object(members)) => members.shift_remove(&last).is_some(),
        Some(Json::Array(items)) => match last.parse::<usize>() {
            Ok(at) if at < items.len() => {
                items.remove(at);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn decode(text: &str) -> String {
    let plain = text.replace('+', " ");
    match crate::encoding::Encoding::Url.decode(plain.replace(' ', "%20").as_bytes()) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => plain,
    }
}

fn encode(text: &str) -> String {
    crate::encoding::Encoding::Url.encode(text.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CARD: &str = "4111111111111111";

    fn json_rule(query: &str) -> What {
        What::Json(Query::parse(query).unwrap())
    }

    #[test]
    fn texts_lose_what_is_found() {
        let regex = What::Regex(Regex::new("P-[0-9]+").unwrap());
        let scrub = |with, text: &str| {
            let mut text = text.to_owned();
            let count = Rules(vec![(What::Pan, with), (regex.clone(), with)]).text(&mut text);
            (text, count)
        };
        assert_eq!(
            scrub(With::Mask, &format!("a {CARD} P-7 {CARD}")),
            ("a 411111******1111 *** 411111******1111".into(), 3)
        );
        assert_eq!(scrub(With::Remove, &format!("a {CARD} P-7")), ("a  ".into(), 2));
        let (hashed, _) = scrub(With::Hash, &format!("{CARD}, {CARD}"));
        let (one, two) = hashed.split_once(", ").unwrap();
        assert!(one == two && one.starts_with('#') && !hashed.contains("4111"));
    }

    #[test]
    fn documents_lose_what_is_selected_and_what_texts_hold() {
        let mut json =
            json!({ "a": { "ssn": 7, "x": [1, 2, 3] }, "ssn": "b", "n": 4_111_111_111_111_111_u64, "t": CARD });
        let rules = Rules(vec![
            (json_rule("$..ssn"), With::Mask),
            (json_rule("$.a.x[0, 1]"), With::Remove),
            (What::Pan, With::Mask),
        ]);
        assert_eq!(rules.json(&mut json), Ok(6));
        let mut wide: Json = (0..20_000).collect();
        assert_eq!(Rules(vec![(json_rule("$..a..b"), With::Mask)]).json(&mut wide), Err(TooLarge));
        let masked = "411111******1111";
        assert_eq!(json, json!({ "a": { "ssn": "***", "x": [3] }, "ssn": "***", "n": masked, "t": masked }));
    }

    #[test]
    fn pairs_and_fields_lose_what_is_named() {
        let rules = Rules(vec![
            (What::Query("k y".into()), With::Mask),
            (What::Form("s".into()), With::Remove),
            (What::Pan, With::Mask),
        ]);
        assert_eq!(
            rules.pairs("a=1&k%20y=2&k+y=3&s=4", Pairs::Query),
            Some(("a=1&k%20y=%2A%2A%2A&k+y=%2A%2A%2A&s=4".into(), 2))
        );
        assert_eq!(rules.pairs("a=1&s=2", Pairs::Form), Some(("a=1".into(), 1)));
        assert_eq!(
            rules.pairs("a=4111+1111+1111+1111", Pairs::Form),
            Some(("a=4111%2011%2A%2A%20%2A%2A%2A%2A%201111".into(), 1))
        );
        assert_eq!(rules.pairs("a=1", Pairs::Form), None);
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let name = HeaderName::from_static("x-a");
        assert_eq!(Rules(vec![(What::Header(name.clone()), With::Mask)]).headers(&mut headers), 2);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["***", "***"]);
        assert_eq!(Rules(vec![(What::Header(name), With::Remove)]).headers(&mut headers), 2);
        assert!(headers.is_empty());
    }
}
