//! Tokens to a tree, with Rhai's precedence.
//!
//! Knows the shape of expressions only: names, types and functions are the business of the check.

use std::ops::Range;

use crate::engine::value::Value;
use crate::expr::lex::{Lexed, Token, lex};
use crate::expr::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, Error, words};

/// A parsed expression.
pub(super) struct Expr {
    pub kind: Kind,
    pub at: Range<usize>,
    depth: usize,
}

pub(super) enum Kind {
    Literal(Value),
    List(Vec<Expr>),
    Map(Vec<(String, Expr)>),
    /// Never empty.
    Path(Vec<Step>),
    Member(Box<Expr>, Step),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Call {
        name: String,
        name_at: Range<usize>,
        arguments: Vec<Expr>,
    },
}

/// One name, key or position of a path.
#[derive(Clone)]
pub(super) struct Step {
    pub name: String,
    pub index: Option<i64>,
    pub at: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    In,
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Default,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::Unequal => "!=",
            Operator::In => "in",
            Operator::NotIn => "!in",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Default => "??",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
        }
    }

    /// Rhai's binding strengths; all of these bind from left to right.
    fn strength(self) -> u8 {
        match self {
            Operator::Or => 30,
            Operator::And => 60,
            Operator::Equal | Operator::Unequal => 90,
            Operator::In | Operator::NotIn => 110,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => 130,
            Operator::Default => 135,
            Operator::Add | Operator::Subtract => 150,
            Operator::Multiply | Operator::Divide | Operator::Remainder => 180,
        }
    }

    const ALL: [Operator; 16] = [
        Operator::Or,
        Operator::And,
        Operator::Equal,
        Operator::Unequal,
        Operator::In,
        Operator::NotIn,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::Default,
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
        Operator::Remainder,
    ];
}

/// Parses a whole text as one expression.
pub(super) fn parse(source: &str) -> Result<Expr, Error> {
    if source.len() > EXPRESSION_BYTES_MAX {
        let message = format!("An expression has at most {EXPRESSION_BYTES_MAX} bytes; this one has {}.", source.len());
        return Err(Error::new("expr.too_long", 0..source.len(), message, "too long")
            .with_help("put the words into a `list` resource, or split it over several steps"));
    }
    let mut parser = Parser { tokens: lex(source)?.into_iter().peekable(), depth: 0, end: 0 };
    if matches!(parser.peek(), Token::End) {
        return Err(Error::new(
            "expr.empty",
            0..source.len(),
            "An expression was expected; there is nothing.",
            "empty",
        )
        .with_help("write a path such as request.method; a literal `${` is written `$${`"));
    }
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Lexed>>,
    depth: usize,
    /// Where the last taken token ended.
    end: usize,
}

const END: Token = Token::End;

impl Parser {
    fn peek(&mut self) -> &Token {
        self.tokens.peek().map_or(&END, |lexed| &lexed.token)
    }

    fn here(&mut self) -> Range<usize> {
        let end = self.end;
        self.tokens.peek().map_or(end..end, |lexed| lexed.at.clone())
    }

    fn advance(&mut self) -> (Token, Range<usize>) {
        match self.tokens.next() {
            Some(lexed) => {
                self.end = lexed.at.end;
                (lexed.token, lexed.at)
            }
            None => (Token::End, self.end..self.end),
        }
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(next) if *next == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Error> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&mut self, expected: &str) -> Error {
        let at = self.here();
        let got = match self.peek() {
            Token::Int(int) => format!("the number {int}"),
            Token::Float(float) => format!("the number {float}"),
            Token::Text(_) => "a text".to_owned(),
            Token::Word(word) => match words::word(word) {
                Some(refused) => return refused.error(at),
                None => format!("the name `{word}`"),
            },
            Token::Sign(sign) => format!("`{sign}`"),
            Token::Refused(refused) => return refused.error(at),
            Token::End => "the end of the expression".to_owned(),
        };
        Error::new("expr.syntax", at, format!("Expected {expected}, found {got}."), format!("expected {expected}"))
    }

    fn make(&self, kind: Kind, at: Range<usize>) -> Result<Expr, Error> {
        let deepest = |children: &mut dyn Iterator<Item = &Expr>| children.map(|child| child.depth).max().unwrap_or(0);
        let below = match &kind {
            Kind::Literal(_) | Kind::Path(_) => 0,
            Kind::List(elements) => deepest(&mut elements.iter()),
            Kind::Map(entries) => deepest(&mut entries.iter().map(|(_, value)| value)),
            Kind::Member(base, _) => base.depth,
            Kind::Not(inner) | Kind::Negate(inner) => inner.depth,
            Kind::Index(left, right) | Kind::Binary(_, left, right) => left.depth.max(right.depth),
            Kind::Call { arguments, .. } => deepest(&mut arguments.iter()),
        };
        if below >= EXPRESSION_DEPTH_MAX { Err(too_deep(at)) } else { Ok(Expr { kind, at, depth: below + 1 }) }
    }

    fn expression(&mut self) -> Result<Expr, Error> {
        self.binary(0)
    }

    fn operator(&mut self) -> Option<Operator> {
        let sign = match self.peek() {
            Token::Sign(sign) => *sign,
            Token::Word(word) if word == "in" => "in",
            _ => return None,
        };
        Operator::ALL.into_iter().find(|operator| operator.sign() == sign)
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Error> {
        let mut left = self.unary()?;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() >= least) {
            self.advance();
            let right = self.binary(operator.strength() + 1)?;
            let at = left.at.start..right.at.end;
            left = self.make(Kind::Binary(operator, Box::new(left), Box::new(right)), at)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Error> {
        let start = self.here();
        // Every way into a deeper level passes here, so this alone bounds the recursion.
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(too_deep(start));
        }
        let expr = if self.takes("!") {
            let inner = self.unary()?;
            let at = start.start..inner.at.end;
            self.make(Kind::Not(Box::new(inner)), at)
        } else if self.takes("-") {
            if let Token::Int(int) = *self.peek() {
                let (_, at) = self.advance();
                let at = start.start..at.end;
                let literal = self.make(Kind::Literal(Value::Int(0i64.wrapping_sub_unsigned(int))), at)?;
                self.postfix(literal)
            } else {
                let inner = self.unary()?;
                let at = start.start..inner.at.end;
                self.make(Kind::Negate(Box::new(inner)), at)
            }
        } else {
            let primary = self.primary()?;
            self.postfix(primary)
        };
        self.depth -= 1;
        expr
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let start = self.here();
        match self.peek() {
            Token::Word(word) if word == "true" || word == "false" => {
                let value = word == "true";
                self.advance();
                self.make(Kind::Literal(Value::Bool(value)), start)
            }
            Token::Word(word) if word != "in" && words::word(word).is_none() => {
                let name = word.clone();
                self.advance();
                if self.takes("(") {
                    return self.call(name, start.clone(), Vec::new(), start.start);
                }
                self.make(Kind::Path(vec![Step { name, index: None, at: start.clone() }]), start)
            }
            Token::Int(int) => {
                let int = i64::try_from(*int).map_err(|_| {
                    Error::new(
                        "expr.bad_number",
                        start.clone(),
                        "The number is beyond 9223372036854775807.",
                        "too large",
                    )
                })?;
                self.advance();
                self.make(Kind::Literal(Value::Int(int)), start)
            }
            Token::Float(float) => {
                let float = *float;
                self.advance();
                self.make(Kind::Literal(Value::Float(float)), start)
            }
            Token::Text(_) => match self.advance() {
                (Token::Text(text), at) => self.make(Kind::Literal(Value::text(text)), at),
                _ => Err(self.unexpected("a text")),
            },
            Token::Sign("(") => {
                self.advance();
                if matches!(self.peek(), Token::Sign(")")) {
                    return Err(self.unexpected("a value"));
                }
                let mut inner = self.expression()?;
                self.expect(")")?;
                inner.at = start.start..self.end;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.advance();
                let elements = self.elements("]")?;
                self.make(Kind::List(elements), start.start..self.end)
            }
            Token::Sign("#{") => {
                self.advance();
                let entries = self.entries()?;
                self.make(Kind::Map(entries), start.start..self.end)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Expressions up to a closing sign, which is taken.
    fn elements(&mut self, close: &'static str) -> Result<Vec<Expr>, Error> {
        let mut elements = Vec::new();
        while !self.takes(close) {
            elements.push(self.expression()?);
            if !self.takes(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(elements)
    }

    fn entries(&mut self) -> Result<Vec<(String, Expr)>, Error> {
        let mut entries: Vec<(String, Expr)> = Vec::new();
        while !self.takes("}") {
            if !matches!(self.peek(), Token::Word(_) | Token::Text(_)) {
                return Err(self.unexpected("a key or `}`"));
            }
            let (token, at) = self.advance();
            let (Token::Word(key) | Token::Text(key)) = token else { return Err(self.unexpected("a key")) };
            if entries.iter().any(|(earlier, _)| *earlier == key) {
                let message = format!("The key `{key}` stands twice in this map.");
                return Err(Error::new("expr.duplicate_key", at, message, "second time").with_help("remove one"));
            }
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }

    fn call(
        &mut self,
        name: String,
        name_at: Range<usize>,
        mut before: Vec<Expr>,
        start: usize,
    ) -> Result<Expr, Error> {
        before.extend(self.elements(")")?);
        self.make(Kind::Call { name, name_at, arguments: before }, start..self.end)
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        loop {
            let start = expr.at.start;
            expr = if self.takes(".") {
                if !matches!(self.peek(), Token::Word(_)) {
                    return Err(self.unexpected("a name after `.`"));
                }
                let (token, at) = self.advance();
                let Token::Word(name) = token else { return Err(self.unexpected("a name")) };
                if self.takes("(") {
                    self.call(name, at, vec![expr], start)?
                } else {
                    self.step(expr, Step { name, index: None, at })?
                }
            } else if self.takes("[") {
                let index = self.expression()?;
                self.expect("]")?;
                match &index.kind {
                    Kind::Literal(Value::Int(position)) => {
                        let step = Step { name: position.to_string(), index: Some(*position), at: index.at };
                        self.step(expr, step)?
                    }
                    Kind::Literal(Value::Text(key)) => {
                        let step = Step { name: key.to_string(), index: None, at: index.at.clone() };
                        self.step(expr, step)?
                    }
                    _ => self.make(Kind::Index(Box::new(expr), Box::new(index)), start..self.end)?,
                }
            } else {
                return Ok(expr);
            };
        }
    }

    fn step(&self, base: Expr, step: Step) -> Result<Expr, Error> {
        let at = base.at.start..self.end;
        match base.kind {
            Kind::Path(mut steps) => {
                steps.push(step);
                Ok(Expr { kind: Kind::Path(steps), at, depth: base.depth })
            }
            kind => self.make(Kind::Member(Box::new(Expr { kind, ..base }), step), at),
        }
    }
}

fn too_deep(at: Range<usize>) -> Error {
    let message = format!("An expression nests at most {EXPRESSION_DEPTH_MAX} deep; this one is deeper.");
    Error::new("expr.too_deep", at, message, "too deep here")
        .with_help("compare with several values by `x in ['a', 'b']`, or split it over several steps")
}
