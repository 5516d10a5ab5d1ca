//! Text to tokens, as Rhai writes them; what is outside of the subset is named already here.
//!
//! Does not decide where a token may stand.

use std::ops::Range;

use crate::expr::Error;
use crate::expr::words::{self, Refused};

/// One token.
#[derive(Clone)]
pub(super) enum Token {
    /// Up to 2^63, so that the smallest int can be written with its sign.
    Int(u64),
    Float(f64),
    Text(String),
    Word(String),
    Sign(&'static str),
    /// A sign outside of the subset; nothing after it is read.
    Refused(&'static Refused),
    End,
}

/// A token and its bytes.
#[derive(Clone)]
pub(super) struct Lexed {
    pub token: Token,
    pub at: Range<usize>,
}

/// Signs of the subset, longest first where one begins another.
const SIGNS: &[&str] = &[
    "||", "&&", "==", "!=", "<=", ">=", "??", "#{", "(", ")", "[", "]", "}", ",", ".", ":", "<", ">", "!", "-", "+",
    "*", "/", "%",
];

/// All tokens, up to the end or the first sign that is refused.
pub(super) fn lex(source: &str) -> Result<Vec<Lexed>, Error> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_while(char::is_whitespace);
        let start = lexer.at;
        let token = lexer.token()?;
        let end = matches!(token, Token::End | Token::Refused(_));
        tokens.push(Lexed { token, at: start..lexer.at });
        if end {
            return Ok(tokens);
        }
    }
}

/// Whether a character may continue a name.
pub(super) fn continues_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn skip_while(&mut self, accepts: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let length = rest.find(|char| !accepts(char)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn token(&mut self) -> Result<Token, Error> {
        let Some(char) = self.peek() else { return Ok(Token::End) };
        match char {
            '\'' | '"' => self.text(char),
            '0'..='9' => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => Ok(Token::Word(self.skip_while(continues_name).to_owned())),
            _ => self.sign(char),
        }
    }

    fn sign(&mut self, first: char) -> Result<Token, Error> {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix("!in")
            && !after.starts_with(continues_name)
        {
            self.at += 3;
            return Ok(Token::Sign("!in"));
        }
        let longer = |refused: &&Refused| rest.starts_with(refused.spelling);
        let refused = words::SIGNS.iter().find(longer);
        let accepted = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        match (accepted, refused) {
            (Some(sign), Some(refused)) if refused.spelling.len() <= sign.len() => Ok(self.take(sign)),
            (Some(sign), None) => Ok(self.take(sign)),
            (_, Some(refused)) => {
                self.at += refused.spelling.len();
                Ok(Token::Refused(refused))
            }
            (None, None) => Err(Error::new(
                "expr.syntax",
                self.at..self.at + first.len_utf8(),
                format!("The character `{}` begins nothing in an expression.", first.escape_default()),
                "not expected here",
            )
            .with_help("put texts into quotes: 'text'")),
        }
    }

    fn take(&mut self, sign: &'static str) -> Token {
        self.at += sign.len();
        Token::Sign(sign)
    }

    fn number(&mut self) -> Result<Token, Error> {
        let start = self.at;
        let digits = |char: char| char.is_ascii_digit() || char == '_';
        let mut spelling = self.skip_while(digits).to_owned();
        let mut float = false;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|char| char.is_ascii_digit()) {
            float = true;
            self.at += 1;
            spelling.push('.');
            spelling.push_str(self.skip_while(digits));
        }
        if let Some(length) = exponent(self.rest()) {
            float = true;
            spelling.push_str(self.rest().get(..length).unwrap_or_default());
            self.at += length;
        }
        let suffix = self.skip_while(continues_name);
        let at = start..self.at;
        if !suffix.is_empty() {
            return Err(Error::new(
                "expr.bad_number",
                at,
                format!("A number in decimal digits was expected; `{suffix}` cannot follow one."),
                "not a number",
            )
            .with_help("numbers are written as 15, 1_000, 2.5 or 1e6; durations and sizes are no values"));
        }
        spelling.retain(|char| char != '_');
        let too_large = |limit: &str| {
            Error::new("expr.bad_number", at.clone(), format!("The number is beyond {limit}."), "too large")
        };
        if float {
            let float: f64 = spelling.parse().unwrap_or(f64::INFINITY);
            return if float.is_finite() { Ok(Token::Float(float)) } else { Err(too_large("what a float holds")) };
        }
        match spelling.parse() {
            Ok(int) if int <= i64::MIN.unsigned_abs() => Ok(Token::Int(int)),
            _ => Err(too_large("9223372036854775807")),
        }
    }

    fn text(&mut self, quote: char) -> Result<Token, Error> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                None | Some('\n' | '\r') => {
                    return Err(Error::new(
                        "expr.bad_text",
                        start..at,
                        format!("The text that begins here has no closing {quote} on its line."),
                        "begins here",
                    )
                    .with_help("close the quote; a line break inside of a text is written \\n"));
                }
                Some('\\') => text.push(self.escape(at)?),
                Some(char) if char == quote => return Ok(Token::Text(text)),
                Some(char) => text.push(char),
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<char, Error> {
        let char = match self.next() {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(char @ ('\\' | '\'' | '"')) => Some(char),
            Some('u') => self.code_point(),
            _ => None,
        };
        char.ok_or_else(|| {
            Error::new("expr.bad_text", start..self.at, "This is no escape of a text.".to_owned(), "unknown escape")
                .with_help("there are \\n \\t \\r \\\\ \\' \\\" and \\u{1F600}; a backslash itself is written \\\\")
        })
    }

    fn code_point(&mut self) -> Option<char> {
        let inside = self.rest().strip_prefix('{')?;
        let digits = inside.get(..inside.find('}')?)?;
        self.at += digits.len() + 2;
        let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal).and_then(char::from_u32)
    }
}

/// Length of an exponent at the start of a text, if there is one.
fn exponent(text: &str) -> Option<usize> {
    let after = text.strip_prefix(['e', 'E'])?;
    let digits = after.strip_prefix(['+', '-']).unwrap_or(after);
    let length = digits.find(|char: char| !char.is_ascii_digit()).unwrap_or(digits.len());
    (length > 0).then(|| text.len() - digits.len() + length)
}
