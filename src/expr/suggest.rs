//! "Did you mean": the nearest of some names.

/// Most letters that may differ.
const DISTANCE_MAX: usize = 2;

/// The name nearest to a misspelt one, if one is near enough.
pub(super) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = DISTANCE_MAX.min(wrong.chars().count() / 2);
    names
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance in letters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(line + 1);
        for ((column, other), pair) in right.iter().enumerate().zip(row.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            let before = next.get(column).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(letter != *other)).min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("lower", "lower"), 0);
        assert_eq!(distance("lowr", "lower"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("lowwer", ["upper", "lower"].into_iter()), Some("lower"));
        assert_eq!(nearest("x", ["upper", "lower"].into_iter()), None);
    }
}
