//! Places in a document, gathered before any of them is changed.
//!
//! A query may select a place twice, and in any order; to remove one item moves those behind it. So all places are
//! laid out as a tree first, and the document is walked once along it.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::With;

/// A place, and those below it.
#[derive(Debug, Default)]
pub(super) struct Places {
    selected: bool,
    below: HashMap<String, Places>,
}

impl Places {
    /// Out of pointers (RFC 6901).
    pub(super) fn of(pointers: &[String]) -> Places {
        let mut root = Places::default();
        for pointer in pointers {
            let mut place = &mut root;
            for token in pointer.split('/').skip(1) {
                let name = token.replace("~1", "/").replace("~0", "~");
                place = place.below.entry(name).or_default();
            }
            place.selected = true;
        }
        root
    }

    /// Scrubs them, the inner ones first; gives their number. The nesting is that of a document, which its parser bounds.
    pub(super) fn scrub(&self, json: &mut Json, with: With) -> usize {
        let mut count = usize::from(self.selected);
        match json {
            Json::Array(items) if !self.below.is_empty() => {
                let mut at = 0;
                items.retain_mut(|item| {
                    let place = self.below.get(itoa::Buffer::new().format(at));
                    at += 1;
                    place.is_none_or(|place| place.stays(item, with, &mut count))
                });
            }
            Json::Object(members) if !self.below.is_empty() => {
                members.retain(|name, member| {
                    self.below.get(name).is_none_or(|place| place.stays(member, with, &mut count))
                });
            }
            _ => {}
        }
        if self.selected {
            *json = match with {
                With::Remove => Json::Null,
                With::Mask | With::Hash => {
                    Json::String(with.of(&json.as_str().map_or_else(|| json.to_string(), str::to_owned)))
                }
            };
        }
        count
    }

    /// Scrubs the element of a container; `false` where it goes.
    fn stays(&self, json: &mut Json, with: With, count: &mut usize) -> bool {
        *count += self.scrub(json, with);
        !(self.selected && with == With::Remove)
    }
}
