//! Durations, sizes and rates as operators write them: `250ms 30s 5m 1h 7d`, `512B 64KiB 10MiB`,
//! `100/minute`. A number without a unit is refused, because everybody would read another unit into it.
//!
//! Sizes are powers of 1024 (IEC 80000-13). Fractions and sums (`1.5h`, `1h30m`) are not read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A century. Longer durations are mistakes, and would overflow when added to a point in time.
pub const DURATION_MAX: Duration = Duration::from_secs(36_500 * DAY);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Why a text is no duration, size or rate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitError {
    /// What came and why it cannot be used.
    pub message: String,
    /// What to write.
    pub help: String,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.help)
    }
}

impl std::error::Error for UnitError {}

const DURATION_FORMS: &str = "write a whole number and its unit: `250ms`, `30s`, `5m`, `1h` or `7d`";
const SIZE_FORMS: &str = "write a whole number and its unit (powers of 1024): `512B`, `64KiB`, `10MiB` or `1GiB`";
const RATE_FORMS: &str = "write `N/second`, `N/minute`, `N/hour` or `N/day`, such as `100/minute`";

/// Milliseconds per unit of a duration.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", DAY * 1000), ("h", HOUR * 1000), ("m", MINUTE * 1000), ("s", 1000), ("ms", 1)];
/// Bytes per unit of a size.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Seconds per unit of a rate.
const RATE_UNITS: [(&str, u64); 4] = [("second", 1), ("minute", MINUTE), ("hour", HOUR), ("day", DAY)];

/// Reads `250ms`, `30s`, `5m`, `1h`, `7d`.
///
/// # Errors
/// What is wrong and what to write; also for durations above [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let millis = scaled(text, &DURATION_UNITS, DURATION_FORMS)?;
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX {
        return Err(too_much(text, "at most `36500d` is possible"));
    }
    Ok(duration)
}

/// Reads `512B`, `64KiB`, `10MiB`, `1GiB` to bytes.
///
/// # Errors
/// What is wrong and what to write; also for sizes that 64 bits cannot hold.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    scaled(text, &SIZE_UNITS, SIZE_FORMS)
}

/// Reads `N/second|minute|hour|day` to a count above zero and the period.
///
/// # Errors
/// What is wrong and what to write.
pub fn parse_rate(text: &str) -> Result<(u64, Duration), UnitError> {
    let wrong = || UnitError { message: format!("{} is no rate", shown(text)), help: RATE_FORMS.to_owned() };
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    let known = RATE_UNITS.iter().find(|(name, _)| *name == unit);
    let (true, Some((_, seconds))) = (digits, known) else {
        return Err(wrong());
    };
    if has_leading_zero(count) {
        return Err(octal(text, RATE_FORMS));
    }
    let count: u64 = count.parse().map_err(|_| too_much(text, RATE_FORMS))?;
    if count == 0 {
        return Err(UnitError {
            message: format!("{} lets nothing through", shown(text)),
            help: "write a count above 0; to refuse everything use the step `raise`".to_owned(),
        });
    }
    Ok((count, Duration::from_secs(*seconds)))
}

/// A duration in its largest unit that needs no fraction.
pub fn write_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    write_scaled(millis, &DURATION_UNITS, "s")
}

/// A size in its largest unit that needs no fraction.
pub fn write_size(bytes: u64) -> String {
    write_scaled(bytes, &SIZE_UNITS, "B")
}

/// A rate as [`parse_rate`] reads it; periods that have no name are written as durations.
pub fn write_rate(count: u64, period: Duration) -> String {
    let named = RATE_UNITS.iter().find(|(_, seconds)| period == Duration::from_secs(*seconds));
    match named {
        Some((name, _)) => format!("{count}/{name}"),
        None => format!("{count}/{}", write_duration(period)),
    }
}

fn write_scaled(value: u64, units: &[(&str, u64)], zero_unit: &str) -> String {
    let fits = units.iter().find(|(_, scale)| value.is_multiple_of(*scale) && value > 0);
    match fits {
        Some((unit, scale)) => format!("{}{unit}", value / scale),
        None => format!("{value}{zero_unit}"),
    }
}

fn scaled(text: &str, units: &[(&str, u64)], forms: &str) -> Result<u64, UnitError> {
    let error = |message: String| UnitError { message, help: forms.to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(error(format!("{} does not begin with a number", shown(text))));
    }
    if unit.is_empty() {
        return Err(error(format!("{} has no unit", shown(text))));
    }
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(error(format!("{} has the unknown unit {}", shown(text), shown(unit))));
    };
    if has_leading_zero(number) {
        return Err(octal(text, forms));
    }
    let value: Option<u64> = number.parse().ok().and_then(|number: u64| number.checked_mul(*scale));
    value.ok_or_else(|| too_much(text, forms))
}

/// Whether digits begin with a zero that does not belong to the number: some read them as octal, some do not.
pub fn has_leading_zero(digits: &str) -> bool {
    digits.strip_prefix('0').is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// A number in decimal digits and nothing else: no sign, no leading zero. `None` where it is not that or does not fit.
pub fn parse_digits<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !has_leading_zero(text);
    text.parse().ok().filter(|_| plain)
}

fn octal(text: &str, help: &str) -> UnitError {
    let message = format!("{} begins with a zero, which may mean octal", shown(text));
    UnitError { message, help: help.to_owned() }
}

fn too_much(text: &str, help: &str) -> UnitError {
    UnitError { message: format!("{} is too large", shown(text)), help: help.to_owned() }
}

/// A text as messages show it: in backticks, and not all of a long one.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}...`", text.get(..end).unwrap_or("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("36500d", 36_500 * 86_400_000),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(write_duration(duration), text);
        }
        assert_eq!(write_duration(Duration::from_millis(1500)), "1500ms");
        for (text, message) in [
            ("30", "`30` has no unit"),
            ("", "`` does not begin with a number"),
            ("s", "does not begin"),
            ("-1s", "does not begin"),
            ("1.5h", "unknown unit `.5h`"),
            ("1h30m", "unknown unit `h30m`"),
            ("5 m", "unknown unit ` m`"),
            ("5M", "unknown unit `M`"),
            ("5min", "unknown unit `min`"),
            ("\u{663}s", "does not begin"),
            ("030s", "begins with a zero"),
            ("00s", "begins with a zero"),
            ("36501d", "too large"),
            ("99999999999999999999d", "too large"),
            ("9999999999999999d", "too large"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
        }
        assert!(parse_duration("30").unwrap_err().help.contains("`30s`"));
    }

    #[test]
    fn digits() {
        assert_eq!(["0", "7", "310"].map(parse_digits::<u16>), [Some(0), Some(7), Some(310)]);
        for text in ["", "00", "0310", "+310", "-1", "1.5", " 1", "1_0", "65536", "0x1"] {
            assert_eq!(parse_digits::<u16>(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30), ("2TiB", 2 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(write_size(bytes), text);
        }
        for (text, message) in [
            ("1024", "`1024` has no unit"),
            ("1KB", "unknown unit `KB`"),
            ("1kib", "unknown unit `kib`"),
            ("1M", "unknown unit"),
            ("010KiB", "begins with a zero"),
            ("99999999TiB", "too large"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.message.contains(message) && error.help.contains("`64KiB`"), "{text}: {error}");
        }
    }

    #[test]
    fn rates() {
        for (text, count, seconds) in
            [("1/second", 1, 1), ("100/minute", 100, 60), ("5/hour", 5, 3600), ("7/day", 7, 86_400)]
        {
            assert_eq!(parse_rate(text), Ok((count, Duration::from_secs(seconds))), "{text}");
            assert_eq!(write_rate(count, Duration::from_secs(seconds)), text);
        }
        for text in ["100", "100/min", "100/s", "/minute", "a/minute", "1 / minute", "-1/day", "1/minutes", "0/day"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(parse_rate("99999999999999999999/day").unwrap_err().message.contains("too large"));
        let octal = parse_rate("010/minute").unwrap_err();
        assert!(octal.message.contains("begins with a zero") && octal.help.contains("`100/minute`"), "{octal}");
        assert!(parse_rate("00/day").unwrap_err().message.contains("begins with a zero"));
        assert!(parse_rate("0/day").unwrap_err().message.contains("nothing through"));
    }
}
