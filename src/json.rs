//! A scan of a JSON text that builds nothing: is it JSON, and is it within bounds?
//!
//! RFC 8259 with the rules of RFC 7493 §2.1 and §2.3: UTF-8 only, no lone surrogates, no byte order mark, and no
//! name twice in one object. The scan keeps a stack of its own, so that depth costs no stack of the process. It
//! knows no numbers: whether one fits a type is for whoever reads it.

use std::borrow::Cow;
use std::collections::HashSet;

/// Members of one object that are compared one by one; above, a set is built.
const MEMBERS_COMPARED: usize = 8;

/// What a JSON text may hold. Each number is still allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Nesting of objects and arrays.
    pub depth: usize,
    /// Members of one object.
    pub members: usize,
    /// Items of one array.
    pub items: usize,
    /// Characters of a name.
    pub name_length: usize,
    /// Characters of a string.
    pub string_length: usize,
    /// Characters of a number as written.
    pub number_length: usize,
    /// Values of the whole text, containers counted.
    pub nodes: usize,
    /// Whether a name may stand twice in one object.
    pub duplicates: bool,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    Depth,
    Members,
    Items,
    NameLength,
    StringLength,
    NumberLength,
    Nodes,
    DuplicateName,
    /// It is no JSON: what was expected.
    Invalid(&'static str),
}

/// Where the text breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub breach: Breach,
    /// Bytes before it.
    pub at: usize,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.breach {
            Breach::Depth => out.write_str("nested too deep")?,
            Breach::Members => out.write_str("an object has too many members")?,
            Breach::Items => out.write_str("an array has too many items")?,
            Breach::NameLength => out.write_str("a name is too long")?,
            Breach::StringLength => out.write_str("a string is too long")?,
            Breach::NumberLength => out.write_str("a number is too long")?,
            Breach::Nodes => out.write_str("too many values")?,
            Breach::DuplicateName => out.write_str("a name stands twice in one object")?,
            Breach::Invalid(expected) => write!(out, "not JSON: expected {expected}")?,
        }
        write!(out, ", at byte {}", self.at)
    }
}

/// Scans a whole text; gives the number of values in it.
pub fn scan(text: &[u8], bounds: &Bounds) -> Result<usize, Broken> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Broken { breach: Breach::Invalid("UTF-8"), at: error.valid_up_to() })?;
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, nodes: 0, bounds, open: Vec::new() };
    scan.document()?;
    Ok(scan.nodes)
}

/// An object or array that is open.
enum Open<'t> {
    Object(Names<'t>),
    /// Items so far.
    Array(usize),
}

/// The names of one object so far.
#[derive(Default)]
struct Names<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>>,
    count: usize,
}

impl<'t> Names<'t> {
    /// `false` where the name was there.
    fn add(&mut self, name: Cow<'t, str>) -> bool {
        if self.few.len() < MEMBERS_COMPARED && self.many.is_empty() {
            let new = !self.few.contains(&name);
            self.few.push(name);
            return new;
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(name)
    }
}

struct Scan<'t, 'b> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    nodes: usize,
    bounds: &'b Bounds,
    open: Vec<Open<'t>>,
}

impl<'t> Scan<'t, '_> {
    fn document(&mut self) -> Result<(), Broken> {
        self.blanks();
        self.value()?;
        // Each turn ends a value: what may follow is decided by what is open around it.
        loop {
            self.blanks();
            match self.open.last() {
                None if self.at == self.bytes.len() => return Ok(()),
                None => return Err(self.invalid("the end of the text")),
                Some(Open::Array(_)) => match self.next("`,` or `]`")? {
                    b',' => {
                        self.blanks();
                        self.item()?;
                    }
                    b']' => drop(self.open.pop()),
                    _ => return Err(self.invalid_before("`,` or `]`")),
                },
                Some(Open::Object(_)) => match self.next("`,` or `}`")? {
                    b',' => {
                        self.blanks();
                        self.member()?;
                    }
                    b'}' => drop(self.open.pop()),
                    _ => return Err(self.invalid_before("`,` or `}`")),
                },
            }
        }
    }

    /// A scalar, an empty container, or the opening of a container with its first value begun likewise.
    fn value(&mut self) -> Result<(), Broken> {
        loop {
            self.nodes += 1;
            if self.nodes > self.bounds.nodes {
                return Err(self.broken(Breach::Nodes));
            }
            match self.next("a value")? {
                b'{' => {
                    self.enter(Open::Object(Names::default()))?;
                    if self.closes(b'}') {
                        return Ok(());
                    }
                    self.name()?;
                }
                b'[' => {
                    self.enter(Open::Array(0))?;
                    if self.closes(b']') {
                        return Ok(());
                    }
                    self.count_item()?;
                }
                b'"' => return self.string_value(),
                b't' => return self.word(b"rue"),
                b'f' => return self.word(b"alse"),
                b'n' => return self.word(b"ull"),
                b'-' | b'0'..=b'9' => return self.number(),
                _ => return Err(self.invalid_before("a value")),
            }
        }
    }

    fn enter(&mut self, open: Open<'t>) -> Result<(), Broken> {
        if self.open.len() >= self.bounds.depth {
            return Err(self.broken(Breach::Depth));
        }
        self.open.push(open);
        self.blanks();
        Ok(())
    }

    /// Takes the closing bracket of an empty container.
    fn closes(&mut self, bracket: u8) -> bool {
        let closes = self.bytes.get(self.at) == Some(&bracket);
        if closes {
            self.at += 1;
            self.open.pop();
        }
        closes
    }

    fn item(&mut self) -> Result<(), Broken> {
        self.count_item()?;
        self.value()
    }

    fn count_item(&mut self) -> Result<(), Broken> {
        let Some(Open::Array(items)) = self.open.last_mut() else { return Ok(()) };
        *items += 1;
        if *items > self.bounds.items { Err(self.broken(Breach::Items)) } else { Ok(()) }
    }

    fn member(&mut self) -> Result<(), Broken> {
        self.name()?;
        self.value()
    }

    /// A name and its colon.
    fn name(&mut self) -> Result<(), Broken> {
        if self.next("a name in quotes")? != b'"' {
            return Err(self.invalid_before("a name in quotes"));
        }
        let begin = self.at;
        let text = self.string(self.bounds.name_length, Breach::NameLength)?;
        let (members, duplicates) = (self.bounds.members, self.bounds.duplicates);
        let breach = match self.open.last_mut() {
            Some(Open::Object(names)) => {
                names.count += 1;
                match () {
                    () if names.count > members => Some(Breach::Members),
                    () if !duplicates && !names.add(text) => Some(Breach::DuplicateName),
                    () => None,
                }
            }
            _ => None,
        };
        if let Some(breach) = breach {
            return Err(Broken { breach, at: begin });
        }
        self.blanks();
        if self.next("`:`")? != b':' {
            return Err(self.invalid_before("`:`"));
        }
        self.blanks();
        Ok(())
    }

    fn string_value(&mut self) -> Result<(), Broken> {
        self.string(self.bounds.string_length, Breach::StringLength).map(drop)
    }

    /// The rest of a string, behind its first quote; decoded.
    fn string(&mut self, length_max: usize, breach: Breach) -> Result<Cow<'t, str>, Broken> {
        let begin = self.at;
        let mut plain = begin;
        let mut decoded: Option<String> = None;
        let mut length = 0usize;
        loop {
            let byte = self.next("a closing quote")?;
            match byte {
                b'"' | b'\\' => {}
                0..=0x1f => return Err(self.invalid_before("no control character in a string")),
                // The first byte of a character counts it.
                0x80..=0xbf => continue,
                _ => {
                    length += 1;
                    if length > length_max {
                        return Err(Broken { breach, at: begin });
                    }
                    continue;
                }
            }
            let piece = self.text.get(plain..self.at - 1).unwrap_or_default();
            if byte == b'"' {
                return Ok(match decoded {
                    None => Cow::Borrowed(piece),
                    Some(mut text) => {
                        text.push_str(piece);
                        Cow::Owned(text)
                    }
                });
            }
            let char = self.escape()?;
            length += 1;
            if length > length_max {
                return Err(Broken { breach, at: begin });
            }
            let text = decoded.get_or_insert_default();
            text.push_str(piece);
            text.push(char);
            plain = self.at;
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        Ok(match self.next("an escape")? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_digits()?;
                if let Some(char) = char::from_u32(first) {
                    return Ok(char);
                }
                // RFC 8259 §7: a high surrogate and a low one make one character.
                let pair = self.bytes.get(self.at..self.at + 2) == Some(b"\\u") && first < 0xdc00;
                if !pair {
                    return Err(self.invalid("no lone surrogate"));
                }
                self.at += 2;
                let second = self.four_digits()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                let char = low.and_then(|low| char::from_u32(0x10000 + ((first - 0xd800) << 10) + low));
                char.ok_or_else(|| self.invalid("no lone surrogate"))?
            }
            _ => return Err(self.invalid_before("an escape that JSON knows")),
        })
    }

    fn four_digits(&mut self) -> Result<u32, Broken> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = char::from(self.next("four hexadecimal digits")?).to_digit(16);
            number = number << 4 | digit.ok_or_else(|| self.invalid_before("four hexadecimal digits"))?;
        }
        Ok(number)
    }

    /// The rest of a number, behind its first character (RFC 8259 §6).
    fn number(&mut self) -> Result<(), Broken> {
        let begin = self.at - 1;
        let negative = self.bytes.get(begin) == Some(&b'-');
        if negative && !self.digit() {
            return Err(self.invalid("a digit"));
        }
        // Now the first digit is behind us; a zero stands alone.
        if self.bytes.get(self.at - 1) != Some(&b'0') {
            self.digits();
        }
        if self.takes(b".") && !self.digits() {
            return Err(self.invalid("a digit"));
        }
        if self.takes(b"eE") {
            self.takes(b"+-");
            if !self.digits() {
                return Err(self.invalid("a digit"));
            }
        }
        if self.at - begin > self.bounds.number_length {
            return Err(Broken { breach: Breach::NumberLength, at: begin });
        }
        Ok(())
    }

    fn takes(&mut self, one_of: &[u8]) -> bool {
        let takes = self.bytes.get(self.at).is_some_and(|byte| one_of.contains(byte));
        self.at += usize::from(takes);
        takes
    }

    fn digit(&mut self) -> bool {
        self.takes(b"0123456789")
    }

    fn digits(&mut self) -> bool {
        let begin = self.at;
        while self.digit() {}
        self.at > begin
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), Broken> {
        if !self.bytes.get(self.at..).is_some_and(|bytes| bytes.starts_with(rest)) {
            return Err(self.invalid_before("`true`, `false` or `null`"));
        }
        self.at += rest.len();
        Ok(())
    }

    fn blanks(&mut self) {
        while self.takes(b" \t\n\r") {}
    }

    fn next(&mut self, expected: &'static str) -> Result<u8, Broken> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.invalid(expected))?;
        self.at += 1;
        Ok(byte)
    }

    fn broken(&self, breach: Breach) -> Broken {
        Broken { breach, at: self.at }
    }

    fn invalid(&self, expected: &'static str) -> Broken {
        self.broken(Breach::Invalid(expected))
    }

    /// The byte that was just taken is the wrong one.
    fn invalid_before(&self, expected: &'static str) -> Broken {
        Broken { breach: Breach::Invalid(expected), at: self.at.saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests;
