//! Taking sensitive data out of texts, JSON, fields and forms.
//!
//! The rules know no messages and no records: whoever holds one asks for what it is made of. Numbers of changed JSON
//! are written anew, as far as a double holds them (RFC 8259 §6).

mod places;
mod view;

use std::collections::HashMap;
use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use serde_json::{Map, Value as Json};

use self::places::Places;
use self::view::{Reading, View, decoded};
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

    /// Whether they look for fields of a form.
    pub fn read_forms(&self) -> bool {
        self.0.iter().any(|(what, _)| matches!(what, What::Form(_)))
    }

    /// Scrubs a text of a message; gives the number of places.
    pub fn text(&self, text: &mut String) -> usize {
        self.in_text(text, Of::Message)
    }

    /// Scrubs a text that is written down, in which what is percent-encoded can be read too; gives the number of places.
    pub fn recorded_text(&self, text: &mut String) -> usize {
        self.in_text(text, Of::Record)
    }

    fn in_text(&self, text: &mut String, of: Of) -> usize {
        let readings: &[Reading] = match of {
            Of::Message => &[Reading::AsWritten],
            Of::Record => &[Reading::AsWritten, Reading::Percent, Reading::Form],
        };
        let mut count = 0;
        for (what, with) in &self.0 {
            let instead = |found: &str| match (what, with) {
                (What::Pan, With::Mask) => pan::mask(found),
                _ => with.of(found),
            };
            count += readings.iter().map(|reading| replace(text, what, *reading, instead)).sum::<usize>();
        }
        if count > 0 && self.0.iter().any(|(what, _)| matches!(what, What::Pan)) {
            // Digits that were left may make a number with those around them, or around what was removed.
            for reading in readings {
                replace(text, &What::Pan, *reading, pan::mask_whole);
            }
        }
        count
    }

    /// Scrubs a document of a message: what is selected, and then every name, text and number in it; gives the number
    /// of places.
    pub fn json(&self, json: &mut Json) -> Result<usize, TooLarge> {
        Ok(self.places(json)? + self.leaves(json, Of::Message))
    }

    /// The same for one that is written down.
    pub fn recorded_json(&self, json: &mut Json) -> Result<usize, TooLarge> {
        Ok(self.places(json)? + self.leaves(json, Of::Record))
    }

    /// Scrubs only what is selected in a document; gives the number of places.
    pub fn places(&self, json: &mut Json) -> Result<usize, TooLarge> {
        let mut count = 0;
        for (what, with) in &self.0 {
            let What::Json(query) = what else { continue };
            count += Places::of(&query.pointers(json).ok_or(TooLarge)?).scrub(json, *with);
        }
        Ok(count)
    }

    /// The nesting of what comes here is bounded by its parser.
    fn leaves(&self, json: &mut Json, of: Of) -> usize {
        match json {
            Json::String(text) => self.in_text(text, of),
            Json::Number(number) => {
                let mut text = number.to_string();
                let count = self.in_text(&mut text, of);
                if count > 0 {
                    *json = Json::String(text);
                }
                count
            }
            Json::Array(items) => items.iter_mut().map(|item| self.leaves(item, of)).sum(),
            Json::Object(members) => {
                let inside: usize = members.values_mut().map(|member| self.leaves(member, of)).sum();
                inside + self.names(members, of)
            }
            Json::Null | Json::Bool(_) => 0,
        }
    }

    /// Names of members. Those that became the same are told apart by a number: no member is lost.
    fn names(&self, members: &mut Map<String, Json>, of: Of) -> usize {
        let mut changed = HashMap::new();
        let mut count = 0;
        for name in members.keys() {
            let mut scrubbed = name.clone();
            let found = self.in_text(&mut scrubbed, of);
            if found > 0 {
                count += found;
                changed.insert(name.clone(), scrubbed);
            }
        }
        if changed.is_empty() {
            return 0;
        }
        let mut kept = Map::new();
        let mut times: HashMap<String, usize> = HashMap::new();
        let all = std::mem::take(members);
        let untouched: Vec<String> = all.keys().filter(|name| !changed.contains_key(*name)).cloned().collect();
        for name in untouched {
            times.insert(name, 1);
        }
        for (name, member) in all {
            let Some(scrubbed) = changed.remove(&name) else {
                kept.insert(name, member);
                continue;
            };
            let mut free = scrubbed.clone();
            while times.contains_key(&free) {
                let time = times.entry(scrubbed.clone()).or_insert(1);
                *time += 1;
                free = format!("{scrubbed}_{time}");
            }
            times.insert(free.clone(), 1);
            kept.insert(free, member);
        }
        *members = kept;
        count
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
    pub fn header_members(&self, members: &mut Map<String, Json>) {
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
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (pair, None),
            };
            let mut written = decoded(name);
            let named = self.0.iter().find_map(|(what, with)| match (what, of) {
                (What::Query(wanted), Pairs::Query) | (What::Form(wanted), Pairs::Form) if *wanted == written => {
                    Some(*with)
                }
                _ => None,
            });
            if named == Some(With::Remove) {
                count += 1;
                continue;
            }
            let in_name = if of == Pairs::Form { self.text(&mut written) } else { 0 };
            let name = if in_name > 0 { encode(&written) } else { name.to_owned() };
            let mut read = value.map(decoded).unwrap_or_default();
            let in_value = match (named, of) {
                (Some(with), _) => {
                    read = with.of(&read);
                    1
                }
                (None, Pairs::Form) => self.text(&mut read),
                (None, Pairs::Query) => 0,
            };
            count += in_name + in_value;
            kept.push(match (in_value, value) {
                (0, None) => name,
                (0, Some(value)) => format!("{name}={value}"),
                _ => format!("{name}={}", encode(&read)),
            });
        }
        (count > 0).then(|| (kept.join("&"), count))
    }
}

/// Where a text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// It goes on, and means what it says.
    Message,
    /// People read it, who see more in it.
    Record,
}

/// Puts something else in the place of all that is found; gives the number of places.
fn replace(text: &mut String, what: &What, reading: Reading, instead: impl Fn(&str) -> String) -> usize {
    let Some(view) = View::of(text, reading) else { return 0 };
    let places: Vec<Range<usize>> = match what {
        What::Pan => pan::find(view.text()),
        What::Regex(regex) => regex.find_iter(view.text()).map(|found| found.range()).collect(),
        _ => return 0,
    };
    let mut out = String::new();
    let (mut count, mut done) = (0, 0);
    for place in places.into_iter().filter(|place| !place.is_empty()) {
        let written = view.written(&place);
        let new = instead(view.text().get(place).unwrap_or_default());
        out.push_str(text.get(done..written.start).unwrap_or_default());
        out.push_str(&if view.is_decoded() { new.replace(' ', "%20") } else { new });
        done = written.end;
        count += 1;
    }
    if count > 0 {
        out.push_str(text.get(done..).unwrap_or_default());
        *text = out;
    }
    count
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
    fn places_go_once_whatever_the_order_they_are_selected_in() {
        let scrubbed = |query, with| {
            let mut json = json!({ "a": ["s1", "s2", "p"], "o": { "a": ["s1"], "b": 2 } });
            let count = Rules(vec![(json_rule(query), with)]).json(&mut json);
            (json, count.unwrap())
        };
        let rest = |a: Json| json!({ "a": a, "o": { "a": ["s1"], "b": 2 } });
        assert_eq!(scrubbed("$.a[1, 0]", With::Remove), (rest(json!(["p"])), 2));
        assert_eq!(scrubbed("$.a[::-1]", With::Remove), (rest(json!([])), 3));
        assert_eq!(scrubbed("$.a[0, 0, -3]", With::Remove), (rest(json!(["s2", "p"])), 1));
        assert_eq!(scrubbed("$..a", With::Remove), (json!({ "o": { "b": 2 } }), 2));
        assert_eq!(scrubbed("$..a..*", With::Mask).1, 4);
        assert_eq!(scrubbed("$", With::Remove), (Json::Null, 1));
        let hash = keyed_hash(b"s1");
        assert_eq!(scrubbed("$.a[0, 0]", With::Hash), (rest(json!([hash, "s2", "p"])), 1));
        let mut slashed = json!({ "a/b": { "~1": 1, "c": 2 } });
        assert_eq!(Rules(vec![(json_rule("$['a/b']['~1']"), With::Remove)]).json(&mut slashed), Ok(1));
        assert_eq!(slashed, json!({ "a/b": { "c": 2 } }));
    }

    #[test]
    fn names_lose_what_is_found_and_no_member_is_lost() {
        let mut json =
            json!({ CARD: 1, "411111******1111_2": 2, "4111-1111-1111-1111": { CARD: 3 }, "4111111111111111 ": 4 });
        assert_eq!(Rules(vec![(What::Pan, With::Mask)]).json(&mut json), Ok(4));
        let masked = json!({
            "411111******1111": 1, "411111******1111_2": 2, "4111-11**-****-1111": { "411111******1111": 3 },
            "411111******1111 ": 4
        });
        assert_eq!(json.to_string(), masked.to_string());
        let mut same = json!({ "P-1": 1, "P-2": 2, "***_2": 3, "P-3": 4 });
        let regex = What::Regex(Regex::new("P-[0-9]").unwrap());
        assert_eq!(Rules(vec![(regex, With::Mask)]).json(&mut same), Ok(3));
        assert_eq!(same.to_string(), r#"{"***":1,"***_3":2,"***_2":3,"***_4":4}"#);
    }

    #[test]
    fn no_number_stays_beside_a_masked_one() {
        let rules = Rules(vec![(What::Pan, With::Mask)]);
        // What is left of one is a number with the seven digits before it.
        for text in ["4000001 4111 1111 1111 1111", "4000 0000 0000 4111 1111 1111 1111"] {
            let mut scrubbed = text.to_owned();
            assert_eq!(rules.text(&mut scrubbed), 1, "{text}");
            assert!(pan::find(&scrubbed).is_empty(), "{scrubbed}");
        }
        let removed = (What::Regex(Regex::new("X").unwrap()), With::Remove);
        let mut text = "4111X111111111111".to_owned();
        Rules(vec![(What::Pan, With::Mask), removed]).text(&mut text);
        assert_eq!(text, "****************");
    }

    #[test]
    fn what_is_written_down_is_read_as_its_readers_do() {
        let rules =
            Rules(vec![(What::Pan, With::Mask), (What::Regex(Regex::new("[a-z+]+@[a-z.]+").unwrap()), With::Mask)]);
        for (text, scrubbed) in [
            ("/r/4111%201111%201111%201111/x%20y", "/r/4111%2011**%20****%201111/x%20y"),
            ("/r/4111+1111+1111+1111", "/r/4111%2011**%20****%201111"),
            ("/r/%34111111111111111", "/r/411111******1111"),
            ("/r/ann%40example.com?x=%zz", "/r/***?x=%zz"),
            ("ann+x%40example.com", "***"),
            ("a%20b+c", "a%20b+c"),
        ] {
            let mut text = text.to_owned();
            rules.recorded_text(&mut text);
            assert_eq!(text, scrubbed);
        }
        let mut message = "/r/ann%40example.com".to_owned();
        assert_eq!(rules.text(&mut message), 0);
        let mut json = json!({ "p": "/r/ann%40example.com" });
        assert_eq!(rules.recorded_json(&mut json), Ok(1));
        assert_eq!(json, json!({ "p": "/r/***" }));
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
        let masked = "411111%2A%2A%2A%2A%2A%2A1111";
        assert_eq!(rules.pairs(&format!("a&{CARD}"), Pairs::Form), Some((format!("a&{masked}"), 1)));
        assert_eq!(rules.pairs(&format!("{CARD}=1&b"), Pairs::Form), Some((format!("{masked}=1&b"), 1)));
        assert_eq!(rules.pairs(r#"a=%34111111111111111""#, Pairs::Form), Some((format!("a={masked}%22"), 1)));
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
