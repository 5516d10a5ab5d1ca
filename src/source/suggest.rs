//! "Did you mean": the nearest of the words that were possible.

/// Longer words are not compared, which bounds the (quadratic) work.
const WORD_BYTES_MAX: usize = 64;
/// More differing letters than this are no slip of the finger.
const DISTANCE_MAX: usize = 3;

/// The candidate that `name` was most likely meant to be, if one is near enough: the same but for
/// letter case, hyphens, underscores or a plural s; else by the fewest slips (Damerau-Levenshtein).
pub fn suggest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > WORD_BYTES_MAX {
        return None;
    }
    let wanted = normal(name);
    let slips_max = (wanted.chars().count() / 3).clamp(1, DISTANCE_MAX);
    candidates
        .filter(|candidate| *candidate != name && candidate.len() <= WORD_BYTES_MAX)
        .filter_map(|candidate| Some((slips(&wanted, &normal(candidate), slips_max)?, candidate)))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The words nearest to a name, at most `count`, the nearest first: for whoever asks for something that is not there.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let name: String = name.chars().take(WORD_BYTES_MAX).collect();
    let far = name.chars().count() / 2;
    let mut found: Vec<(usize, &str)> = candidates
        .map(|candidate| {
            // What begins with all that was written is nearer than what differs in it.
            let rest = candidate.strip_prefix(name.as_str()).map(|_| 1);
            (rest.unwrap_or_else(|| strsim::damerau_levenshtein(&name, candidate)), candidate)
        })
        .filter(|(distance, _)| *distance <= far)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(count).map(|(_, candidate)| candidate).collect()
}

/// The number of slips between two normal words; `None` when there are too many, or when a word would
/// be replaced altogether (`a` for `b`).
fn slips(wanted: &str, candidate: &str, slips_max: usize) -> Option<usize> {
    if singular(wanted) == singular(candidate) {
        return Some(0);
    }
    let slips = strsim::damerau_levenshtein(wanted, candidate);
    let shorter = wanted.chars().count().min(candidate.chars().count());
    (slips <= slips_max && slips < shorter).then_some(slips)
}

fn normal(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

fn singular(word: &str) -> &str {
    word.strip_suffix('s').unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::suggest;

    #[test]
    fn finds_the_nearest_word_or_none() {
        let known = ["rate", "per", "burst", "group_name", "headers", "methods"];
        for (name, expected) in [
            ("rat", Some("rate")),
            ("rtae", Some("rate")),
            ("bursts", Some("burst")),
            ("method", Some("methods")),
            ("group-name", Some("group_name")),
            ("groupName", Some("group_name")),
            ("Header", Some("headers")),
            ("brust", Some("burst")),
            ("pre", Some("per")),
            ("rate", None),
            ("x", None),
            ("", None),
            ("completely_else", None),
        ] {
            assert_eq!(suggest(name, known.into_iter()), expected, "{name}");
        }
    }
}
