//! Registered claims (RFC 7519 §4.1), read with their own types and checked (§7.2, RFC 8725 §3.8 to §3.11).
//!
//! The claims are read here and not by a general decoder, so that an `exp` that is a string is refused and never
//! taken for absent. Times are compared in whole seconds, each rounded to the stricter side.

use std::sync::Arc;

use serde_json::Value as Json;

use super::compact::{Header, decode_strict};
use super::{Flaw, Refusal, shown};
use crate::json::{Bounds, scan};

/// Last second of the year 9999: times beyond it are no times.
const TIME_MAX_S: i64 = 253_402_300_799;

/// What claims may hold.
const CLAIMS: Bounds = Bounds {
    depth: 16,
    members: 256,
    items: 4096,
    name_length: 256,
    string_length: 16 * 1024,
    number_length: 64,
    nodes: 8192,
    duplicates: false,
};

/// The claims of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// All of them, an object.
    pub all: Arc<Json>,
    pub issuer: Option<Arc<str>>,
    pub audiences: Vec<Arc<str>>,
    /// Unix seconds, like the others.
    pub expires_at_s: Option<i64>,
    pub not_before_s: Option<i64>,
    pub issued_at_s: Option<i64>,
}

/// What `typ` has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    #[default]
    Any,
    /// RFC 9068 §2.1.
    AccessToken,
    /// RFC 7519 §5.1.
    Jwt,
}

/// What claims are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    /// Who must have issued the token.
    pub issuer: &'r str,
    /// Whom it must name: one of these.
    pub audiences: &'r [Arc<str>],
    /// How far clocks may differ.
    pub leeway_s: i64,
    /// How long ago it may have been issued.
    pub max_age_s: Option<i64>,
}

impl Claims {
    /// Reads the claims of a payload.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] where it is no object; [`Flaw::Claim`] where a registered claim has a wrong type.
    pub fn parse(payload: &[u8]) -> Result<Claims, Refusal> {
        scan(payload, &CLAIMS).map_err(|broken| Refusal::malformed(format!("the claims: {broken}")))?;
        let all: Json =
            serde_json::from_slice(payload).map_err(|error| Refusal::malformed(format!("the claims: {error}")))?;
        let Some(members) = all.as_object() else { return Err(Refusal::malformed("the claims are no object")) };
        let issuer = match members.get("iss") {
            None => None,
            Some(Json::String(issuer)) => Some(Arc::from(issuer.as_str())),
            Some(_) => return Err(wrong("iss", "a string")),
        };
        let audiences = match members.get("aud") {
            None => Vec::new(),
            Some(Json::String(audience)) => vec![Arc::from(audience.as_str())],
            Some(Json::Array(list)) => {
                let texts = list.iter().map(|one| one.as_str().map(Arc::from));
                texts.collect::<Option<_>>().ok_or_else(|| wrong("aud", "a string or a list of strings"))?
            }
            Some(_) => return Err(wrong("aud", "a string or a list of strings")),
        };
        let expires_at_s = time(members.get("exp"), "exp", f64::floor)?;
        let not_before_s = time(members.get("nbf"), "nbf", f64::ceil)?;
        let issued_at_s = time(members.get("iat"), "iat", f64::floor)?;
        Ok(Claims { all: Arc::new(all), issuer, audiences, expires_at_s, not_before_s, issued_at_s })
    }

    /// Checks issuer, audience and times.
    ///
    /// # Errors
    /// The first that does not hold: issuer, audience, then times.
    pub fn check(&self, rules: &Rules<'_>, now_s: i64) -> Result<(), Refusal> {
        self.check_issuer(rules.issuer)?;
        self.check_audience(rules.audiences)?;
        self.check_times(rules.leeway_s, rules.max_age_s, now_s)
    }

    /// Whether the token is from whom it must be, letter for letter.
    ///
    /// # Errors
    /// [`Flaw::Issuer`].
    pub fn check_issuer(&self, issuer: &str) -> Result<(), Refusal> {
        match self.issuer.as_deref() {
            Some(came) if came == issuer => Ok(()),
            Some(came) => Err(Refusal::new(Flaw::Issuer, format!("`iss` is `{}`, expected `{issuer}`", shown(came)))),
            None => Err(Refusal::new(Flaw::Issuer, "there is no `iss`")),
        }
    }

    /// Whether it is for one of these.
    ///
    /// # Errors
    /// [`Flaw::Audience`].
    pub fn check_audience<A: AsRef<str>>(&self, wanted: &[A]) -> Result<(), Refusal> {
        if self.audiences.iter().any(|came| wanted.iter().any(|wanted| wanted.as_ref() == &**came)) {
            return Ok(());
        }
        let text = match self.audiences.first() {
            None => "there is no `aud`".to_owned(),
            Some(first) => format!("`aud` is for `{}` and not for us", shown(first)),
        };
        Err(Refusal::new(Flaw::Audience, text))
    }

    /// Whether it counts now.
    ///
    /// # Errors
    /// [`Flaw::Expired`], [`Flaw::NotYetValid`], or [`Flaw::Claim`] where a time is missing.
    pub fn check_times(&self, leeway_s: i64, max_age_s: Option<i64>, now_s: i64) -> Result<(), Refusal> {
        let Some(end) = self.expires_at_s else { return Err(Refusal::new(Flaw::Claim, "there is no `exp`")) };
        if now_s >= end.saturating_add(leeway_s) {
            return Err(Refusal::new(Flaw::Expired, format!("`exp` was {} seconds ago", now_s.saturating_sub(end))));
        }
        if let Some(from) = self.not_before_s
            && now_s.saturating_add(leeway_s) < from
        {
            let text = format!("`nbf` comes in {} seconds", from.saturating_sub(now_s));
            return Err(Refusal::new(Flaw::NotYetValid, text));
        }
        let Some(age) = max_age_s else { return Ok(()) };
        match self.issued_at_s {
            None => Err(Refusal::new(Flaw::Claim, "there is no `iat`, and `max_age` needs it")),
            Some(at) if now_s.saturating_add(leeway_s) < at => {
                Err(Refusal::new(Flaw::NotYetValid, "`iat` lies in the future"))
            }
            Some(at) if now_s.saturating_sub(at) > age.saturating_add(leeway_s) => {
                Err(Refusal::new(Flaw::Expired, format!("issued {} seconds ago", now_s.saturating_sub(at))))
            }
            Some(_) => Ok(()),
        }
    }

    /// What key of its caller the token is bound to (RFC 7800 §3).
    pub fn binding(&self) -> Binding {
        let Some(cnf) = self.all.get("cnf").filter(|cnf| !cnf.is_null()) else { return Binding::None };
        let Some(members) = cnf.as_object() else { return Binding::Unknown };
        let thumbprint = members.get("x5t#S256").and_then(Json::as_str);
        let digest =
            thumbprint.and_then(|text| decode_strict("x5t#S256", text).ok()).and_then(|bytes| bytes.try_into().ok());
        match digest {
            // With another key beside it, both would have to be proved.
            Some(digest) if members.len() == 1 => Binding::Certificate(digest),
            _ => Binding::Unknown,
        }
    }
}

/// What key of its caller a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Whoever has it may use it.
    None,
    /// The client certificate with this SHA-256 (RFC 8705 §3.1).
    Certificate([u8; 32]),
    /// A key that nothing here can prove, such as that of a DPoP proof (RFC 9449 §6.1).
    Unknown,
}

impl Type {
    /// Whether a token is of this type.
    ///
    /// # Errors
    /// [`Flaw::Type`].
    pub fn check(self, header: &Header) -> Result<(), Refusal> {
        let wanted = match self {
            Type::Any => return Ok(()),
            Type::AccessToken => "at+jwt",
            Type::Jwt => "jwt",
        };
        // RFC 7515 §4.1.9: a media type, of which `application/` may be left out; compared without case.
        let typ = header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        if typ.strip_prefix("application/").unwrap_or(&typ) == wanted {
            return Ok(());
        }
        Err(Refusal::new(Flaw::Type, format!("`typ` is `{}`, expected `{wanted}`", shown(&typ))))
    }
}

fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::new(Flaw::Claim, format!("`{name}` is not {expected}"))
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
fn time(value: Option<&Json>, name: &str, round: fn(f64) -> f64) -> Result<Option<i64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let Json::Number(number) = value else { return Err(wrong(name, "a number of seconds")) };
    let seconds = match number.as_i64() {
        Some(whole) => Some(whole),
        // Within the bounds every float is exact in i64.
        None => number.as_f64().map(round).filter(|at| (0.0..=TIME_MAX_S as f64).contains(at)).map(|at| at as i64),
    };
    match seconds {
        Some(seconds) if (0..=TIME_MAX_S).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(wrong(name, "a time between 1970 and 9999")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Result<Claims, Refusal> {
        Claims::parse(text.as_bytes())
    }

    fn checked(text: &str, now_s: i64) -> Result<(), Flaw> {
        let audiences = ["orders".into(), "items".into()];
        let rules = Rules { issuer: "https://a", audiences: &audiences, leeway_s: 60, max_age_s: None };
        claims(text).and_then(|claims| claims.check(&rules, now_s)).map_err(|refusal| refusal.flaw)
    }

    #[test]
    fn times_hold_with_their_leeway_on_both_sides() {
        let token = r#"{"iss":"https://a","aud":["x","items"],"exp":1000.9,"nbf":500.1,"iat":400}"#;
        assert_eq!(checked(token, 441), Ok(()));
        assert_eq!(checked(token, 440), Err(Flaw::NotYetValid));
        assert_eq!(checked(token, 1059), Ok(()));
        assert_eq!(checked(token, 1060), Err(Flaw::Expired));
        let claims = claims(token).unwrap();
        assert_eq!((claims.expires_at_s, claims.not_before_s, claims.issued_at_s), (Some(1000), Some(501), Some(400)));
        assert_eq!(claims.check_times(60, Some(200), 660), Ok(()));
        assert_eq!(claims.check_times(60, Some(200), 661).unwrap_err().flaw, Flaw::Expired);
        assert_eq!(claims.check_times(0, Some(200), 501), Ok(()));
    }

    #[test]
    fn issuer_and_audience_are_compared_letter_for_letter() {
        assert_eq!(checked(r#"{"iss":"https://a/","aud":"orders","exp":9}"#, 1), Err(Flaw::Issuer));
        assert_eq!(checked(r#"{"aud":"orders","exp":9}"#, 1), Err(Flaw::Issuer));
        assert_eq!(checked(r#"{"iss":"https://a","aud":"Orders","exp":9}"#, 1), Err(Flaw::Audience));
        assert_eq!(checked(r#"{"iss":"https://a","aud":[],"exp":9}"#, 1), Err(Flaw::Audience));
        assert_eq!(checked(r#"{"iss":"https://a","aud":"orders"}"#, 1), Err(Flaw::Claim));
    }

    #[test]
    fn wrong_types_are_never_taken_for_absent() {
        let wrong = [
            r#"{"exp":"9999999999"}"#,
            r#"{"exp":null}"#,
            r#"{"exp":[1]}"#,
            r#"{"exp":true}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":253402300800}"#,
            r#"{"exp":18446744073709551615}"#,
            r#"{"nbf":[1]}"#,
            r#"{"nbf":"0"}"#,
            r#"{"iat":{}}"#,
            r#"{"iss":["https://a"]}"#,
            r#"{"iss":1}"#,
            r#"{"aud":{"x":1}}"#,
            r#"{"aud":["x",1]}"#,
            r#"{"aud":null}"#,
        ];
        for text in wrong {
            assert_eq!(claims(text).unwrap_err().flaw, Flaw::Claim, "{text}");
        }
        let broken = [
            "",
            "[]",
            "1",
            r#"{"exp":1,"exp":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":NaN}"#,
            "{\"sub\":\"\u{0}\"}",
        ];
        for text in broken {
            assert_eq!(claims(text).unwrap_err().flaw, Flaw::Malformed, "{text}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(16), "]".repeat(16));
        assert_eq!(claims(&deep).unwrap_err().flaw, Flaw::Malformed);
    }

    #[test]
    fn a_binding_is_understood_whole_or_not_at_all() {
        let of = |cnf: &str| claims(&format!("{{\"cnf\":{cnf}}}")).unwrap().binding();
        let digest = "A".repeat(43);
        assert_eq!(claims("{}").unwrap().binding(), Binding::None);
        assert_eq!(of("null"), Binding::None);
        assert_eq!(of(&format!(r#"{{"x5t#S256":"{digest}"}}"#)), Binding::Certificate([0; 32]));
        let unknown = [
            "{}".to_owned(),
            "[]".to_owned(),
            "\"x\"".to_owned(),
            "false".to_owned(),
            r#"{"jkt":"x"}"#.to_owned(),
            r#"{"x5t#S256":7}"#.to_owned(),
            r#"{"x5t#S256":""}"#.to_owned(),
            format!(r#"{{"x5t#S256":"{digest}="}}"#),
            format!(r#"{{"x5t#S256":"{}"}}"#, "A".repeat(42)),
            format!(r#"{{"x5t#S256":"{}"}}"#, "A".repeat(44)),
            format!(r#"{{"x5t#S256":"{digest}","jkt":"x"}}"#),
            format!(r#"{{"x5t":"{digest}"}}"#),
        ];
        for cnf in unknown {
            assert_eq!(of(&cnf), Binding::Unknown, "{cnf}");
        }
    }

    #[test]
    fn the_type_is_a_media_type() {
        let header =
            |typ: &str| Header { alg: "RS256".into(), kid: None, typ: Some(typ.into()), all: serde_json::json!({}) };
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
            assert!(Type::AccessToken.check(&header(typ)).is_ok(), "{typ}");
        }
        for typ in ["JWT", "", "at+jwt;x", "application/application/at+jwt"] {
            assert_eq!(Type::AccessToken.check(&header(typ)).unwrap_err().flaw, Flaw::Type, "{typ}");
        }
        assert!(Type::Jwt.check(&header("JWT")).is_ok() && Type::Any.check(&header("x")).is_ok());
    }
}
