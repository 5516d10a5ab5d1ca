//! What a token endpoint is sent, and what its answer means (RFC 6749 §2.3.1, §4.4.2, §5 and §6).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::grant::{Grant, same, text_of, token};
use super::{GrantKind, Settings};
use crate::secret::Secret;

/// Longest error word that is repeated.
const ERROR_BYTES_MAX: usize = 64;
/// Words that mean: this grant is dead (RFC 6749 §5.2); the second is GitHub's.
const DEAD: [&str; 2] = ["invalid_grant", "bad_refresh_token"];

/// How the client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// In `Authorization`.
    Basic,
    /// In the body.
    Post,
}

/// Who we are for the provider.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub secret: Secret,
    pub auth: ClientAuth,
}

/// What is sent: a form, and the value of `Authorization` where there is one.
pub struct TokenRequest {
    pub body: Zeroizing<String>,
    pub authorization: Option<Zeroizing<String>>,
}

/// Why there is no new token.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The grant will not come back to life: somebody has to connect the session anew.
    Dead(String),
    /// It may go better the next time.
    Failed(String),
    /// There is no access token in it that could be used. Its refresh token is the one that is good from now on
    /// (RFC 6749 §6), and has to be kept with what there was before.
    Unusable(Box<Grant>, String),
}

/// The request for a new token; `None` where there is nothing to ask with.
pub fn token_request(settings: &Settings, grant: &Grant) -> Option<TokenRequest> {
    let mut body = Zeroizing::new(String::new());
    match settings.grant {
        GrantKind::Refresh => {
            add(&mut body, "grant_type", b"refresh_token");
            add(&mut body, "refresh_token", grant.refresh_token.as_ref()?.expose());
        }
        GrantKind::ClientCredentials => {
            add(&mut body, "grant_type", b"client_credentials");
            if !settings.scopes.is_empty() {
                add(&mut body, "scope", settings.scopes.join(" ").as_bytes());
            }
        }
    }
    let client = &settings.client;
    let authorization = match client.auth {
        ClientAuth::Post => {
            add(&mut body, "client_id", client.id.as_bytes());
            add(&mut body, "client_secret", client.secret.expose());
            None
        }
        ClientAuth::Basic => {
            let (mut id, mut secret) = (String::new(), Zeroizing::new(String::new()));
            encode(client.id.as_bytes(), &mut id);
            encode(client.secret.expose(), &mut secret);
            let pair = Zeroizing::new(format!("{id}:{}", &*secret));
            Some(Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes()))))
        }
    };
    Some(TokenRequest { body, authorization })
}

/// The grant that an answer makes of the one before. An `error` counts whatever the status was: some providers say 200.
pub(super) fn granted(settings: &Settings, before: &Grant, answer: &[u8], now_s: i64) -> Result<Grant, Refused> {
    let failed = |why: &str| Refused::Failed(format!("the token endpoint's answer: {why}"));
    let json: Json = serde_json::from_slice(answer).map_err(|_| failed("it is no JSON"))?;
    let Json::Object(members) = &json else { return Err(failed("it is no JSON object")) };
    if let Some(word) = error_of(members) {
        let why = format!("the token endpoint says `{word}`");
        return Err(if DEAD.contains(&word.as_str()) { Refused::Dead(why) } else { Refused::Failed(why) });
    }
    // Without a new one, or with none in it, the old one stays good (RFC 6749 §6).
    let refresh_token = token(members, "refresh_token").ok().flatten().or_else(|| before.refresh_token.clone());
    let read = || -> Result<Grant, String> {
        let access_token = token(members, "access_token")?.ok_or("it has no `access_token`")?;
        if let Some(other) = text_of(members, "token_type")?.filter(|ty| !ty.eq_ignore_ascii_case("bearer")) {
            return Err(format!("its `token_type` is {} bytes that are not `Bearer`", other.len()));
        }
        let told = members.get("instance_url").and_then(Json::as_str).filter(|_| settings.profile.has_instance_url());
        Ok(Grant {
            access_token: Some(access_token),
            refresh_token: refresh_token.clone(),
            expires_at_s: Some(now_s.saturating_add(expires_in_s(members, settings.lifetime))),
            instance_url: told.map(Arc::from).or_else(|| before.instance_url.clone()),
            account: before.account.clone(),
            refreshed_at_s: Some(now_s),
        })
    };
    read().map_err(|why| match failed(&why) {
        Refused::Failed(why) if !same(refresh_token.as_ref(), before.refresh_token.as_ref()) => {
            Refused::Unusable(Box::new(Grant { refresh_token, ..before.clone() }), why)
        }
        refused => refused,
    })
}

/// How long the access token lives. The grant is as good where a provider writes that otherwise than RFC 6749 §5.1 has
/// it, and lost where it is not taken: what is no time counts as not said.
fn expires_in_s(members: &Map<String, Json>, usual: Duration) -> i64 {
    let told = match members.get("expires_in") {
        Some(Json::Number(number)) => number.as_f64(),
        Some(Json::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let usual_s = i64::try_from(usual.as_secs()).unwrap_or(i64::MAX);
    // Beyond its range a conversion to a whole number takes the bound.
    told.filter(|told: &f64| told.is_finite() && *told >= 0.0).map_or(usual_s, |told| told as i64)
}

/// The word of an error answer, as far as it is one: it stands in records.
fn error_of(members: &Map<String, Json>) -> Option<String> {
    let error = members.get("error").filter(|error| !error.is_null())?;
    let word = error.as_str().unwrap_or_default();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let fits = (1..=ERROR_BYTES_MAX).contains(&word.len()) && word.bytes().all(is_word);
    Some(if fits { word.to_owned() } else { "an error without a word".to_owned() })
}

fn add(body: &mut String, name: &str, value: &[u8]) {
    if !body.is_empty() {
        body.push('&');
    }
    body.push_str(name);
    body.push('=');
    encode(value, body);
}

/// `application/x-www-form-urlencoded` of one value.
fn encode(value: &[u8], out: &mut String) {
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(*byte)),
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::Profile;

    pub fn settings() -> Settings {
        Settings {
            name: "crm".into(),
            profile: Profile::Salesforce,
            grant: GrantKind::Refresh,
            token_url: "https://login.example/token".into(),
            client: Client { id: "id:1".into(), secret: Secret::new(b"s&cret".to_vec()), auth: ClientAuth::Basic },
            scopes: vec!["api".into(), "full".into()],
            allowed_origins: Vec::new(),
            tls: None,
            allow_private: [].into(),
            before: Duration::from_secs(300),
            timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(86_400),
            lifetime: Duration::from_secs(3600),
            expired_when: None,
            file: "crm.json".into(),
        }
    }

    fn before() -> Grant {
        Grant::read(
            br#"{"access_token":"a1","refresh_token":"r 1+"}"#.map(|b| if b == b' ' { b'/' } else { b }).as_slice(),
        )
        .unwrap()
    }

    #[test]
    fn the_client_proves_itself_in_the_header_or_in_the_body() {
        let mut settings = settings();
        let sent = token_request(&settings, &before()).unwrap();
        assert_eq!(&**sent.body, "grant_type=refresh_token&refresh_token=r%2F1%2B");
        let expected = format!("Basic {}", BASE64.encode(b"id%3A1:s%26cret"));
        assert_eq!(sent.authorization.as_deref().map(String::as_str), Some(expected.as_str()));
        settings.client.auth = ClientAuth::Post;
        settings.grant = GrantKind::ClientCredentials;
        let sent = token_request(&settings, &Grant::default()).unwrap();
        let body = "grant_type=client_credentials&scope=api+full&client_id=id%3A1&client_secret=s%26cret";
        assert_eq!((&**sent.body, sent.authorization.is_none()), (body, true));
        settings.grant = GrantKind::Refresh;
        assert!(token_request(&settings, &Grant::default()).is_none());
    }

    #[test]
    fn a_new_refresh_token_takes_the_place_of_the_old_one() {
        let answer = br#"{"access_token":"a2","refresh_token":"r2","expires_in":"60","instance_url":"https://b","token_type":"bearer"}"#;
        let grant = granted(&settings(), &before(), answer, 1000).unwrap();
        assert_eq!(grant.refresh_token.unwrap().expose(), b"r2");
        assert_eq!((grant.expires_at_s, grant.refreshed_at_s), (Some(1060), Some(1000)));
        assert_eq!(grant.instance_url.as_deref(), Some("https://b"));
        let grant = granted(&settings(), &before(), br#"{"access_token":"a2"}"#, 1000).unwrap();
        assert_eq!(grant.refresh_token.unwrap().expose(), b"r/1+");
        assert_eq!(grant.expires_at_s, Some(4600), "the default, where the answer does not say");
    }

    #[test]
    fn an_odd_member_costs_no_grant() {
        let of = |more: &str| {
            let answer = format!(r#"{{"access_token":"a2","refresh_token":"r2",{more}}}"#);
            granted(&settings(), &before(), answer.as_bytes(), 1000)
        };
        for (more, expires_at_s) in [
            (r#""expires_in":3599.5"#, 4599),
            (r#""expires_in":"3600.0""#, 4600),
            (r#""expires_in":1e30"#, i64::MAX),
            (r#""expires_in":-1"#, 4600),
            (r#""expires_in":"soon""#, 4600),
            (r#""expires_in":[60]"#, 4600),
            (r#""error":null"#, 4600),
            (r#""instance_url":7"#, 4600),
        ] {
            let grant = of(more).unwrap();
            assert_eq!(
                (grant.expires_at_s, grant.refresh_token.unwrap().expose()),
                (Some(expires_at_s), &b"r2"[..]),
                "{more}"
            );
        }
        for kept in [r#""refresh_token":"""#, r#""refresh_token":null"#, r#""refresh_token":"r 2""#] {
            let answer = format!(r#"{{"access_token":"a2",{kept}}}"#);
            let grant = granted(&settings(), &before(), answer.as_bytes(), 0).unwrap();
            assert_eq!(grant.refresh_token.unwrap().expose(), b"r/1+", "{kept}");
        }
        // No token to use, and yet the only refresh token that is still good.
        for broken in [r#"{"refresh_token":"r2"}"#, r#"{"access_token":"a2","token_type":"mac","refresh_token":"r2"}"#]
        {
            let Err(Refused::Unusable(grant, _)) = granted(&settings(), &before(), broken.as_bytes(), 0) else {
                panic!("{broken}")
            };
            assert_eq!(grant.refresh_token.unwrap().expose(), b"r2");
            assert_eq!(grant.access_token.unwrap().expose(), b"a1", "it may still serve");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_told_in_words_that_repeat_nothing() {
        let of = |answer: &str| granted(&settings(), &before(), answer.as_bytes(), 0).unwrap_err();
        assert!(matches!(of(r#"{"error":"invalid_grant","error_description":"canary"}"#), Refused::Dead(_)));
        assert!(matches!(of(r#"{"error":"bad_refresh_token","access_token":"canary"}"#), Refused::Dead(_)));
        assert!(matches!(of(r#"{"error":"invalid_client"}"#), Refused::Failed(_)));
        for answer in [
            "canary",
            "[]",
            "{}",
            r#"{"error":"canary canary"}"#,
            r#"{"error":["canary"]}"#,
            r#"{"access_token":1}"#,
            r#"{"access_token":"canary\n"}"#,
            r#"{"access_token":"canary","token_type":"mac-canary"}"#,
        ] {
            let why = of(answer);
            assert!(matches!(&why, Refused::Failed(why) if !why.contains("canary")), "{answer}: {why:?}");
        }
    }
}
