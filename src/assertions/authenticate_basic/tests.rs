//! Credentials of every form, directories that change, and what who is refused learns.

use super::*;
use crate::assertions::trial::{Outcome, Trial};

#[test]
fn credentials_are_strict_base64_of_utf8() {
    assert_eq!(decode("QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap().as_str(), "Aladdin:open sesame");
    assert_eq!(decode("dGVzdDoxMjPCow==").unwrap().as_str(), "test:123£"); // RFC 7617 §2.1
    for wrong in ["QWxhZGRpbjpvcGVuIHNlc2FtZQ", "QWxh ZGRpbg==", "dGVzdDox/_==", "/w==", "QR=="] {
        assert!(decode(wrong).is_err(), "{wrong}");
    }
}

/// The password is that of the hash's test vector.
const SET: &str = r#"
users: staff
entries:
  ann: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", groups: [managers] }
---
service: trial
match: { path: "/{*rest}" }
policy:
  - authenticate_basic: staff
  - respond: { text: "${auth.subject} ${auth.groups}" }
"#;

fn with(trial: &Trial, userinfo: &str) -> Outcome {
    let field = format!("basic  {}", BASE64.encode(userinfo.as_bytes()));
    trial.send("GET", "/", &[("authorization", field.as_str())], "")
}

#[test]
fn a_right_password_passes_and_every_other_is_told_alike() {
    let trial = Trial::of_set(SET);
    for _ in 0..2 {
        let right = with(&trial, "ann:correct horse"); // the second time out of memory
        assert_eq!((right.status, right.body.as_str()), (200, "ann managers"), "{right:?}");
    }
    let missing = trial.get("/");
    assert_eq!(missing.header("www-authenticate"), Some(r#"Basic realm="trial", charset="UTF-8""#));
    assert_eq!(missing.fault.as_deref(), Some("authenticate_basic.missing"));
    for wrong in ["ann:wrong", "eve:correct horse"] {
        let denied = with(&trial, wrong);
        assert_eq!((denied.status, denied.fault.as_deref()), (401, Some("authenticate_basic.invalid")));
    }
    for malformed in ["ann:", ":correct horse", "ann", "ann:a\tb"] {
        assert_eq!(with(&trial, malformed).fault.as_deref(), Some("authenticate_basic.malformed"), "{malformed}");
    }
}

#[test]
fn of_several_directories_the_first_that_knows_the_name_decides() {
    let other = bcrypt::hash("other", 4).unwrap();
    let guests = format!(
        "users: guests\nentries:\n  ann: {{ password: \"{other}\" }}\n  bob: {{ password: \"{other}\" }}\n---\n"
    );
    let staff = SET.replace("authenticate_basic: staff", "authenticate_basic: [guests, staff]");
    let line = staff.lines().find(|line| line.starts_with("  ann:")).unwrap().to_owned();
    let staff = staff.replace(&line, &format!("{line}\n{}", line.replace("ann:", "zoe:")));
    let trial = Trial::of_set(&format!("{guests}{}", staff.trim_start()));
    for (userinfo, status) in [
        ("ann:other", 200),
        ("ann:correct horse", 401), // right in the second, which is not asked
        ("bob:other", 200),
        ("zoe:correct horse", 200),
        ("eve:correct horse", 401),
    ] {
        assert_eq!(with(&trial, userinfo).status, status, "{userinfo}");
    }
}

#[test]
fn a_changed_directory_forgets_whom_it_has_let_in() {
    let trial = Trial::of_set(SET);
    assert_eq!(with(&trial, "ann:correct horse").status, 200);
    let other = SET.replace("$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "NEW");
    let other = other.replace("NEW", &bcrypt::hash("other", 4).unwrap());
    trial.reload_set(&other);
    assert_eq!(with(&trial, "ann:correct horse").fault.as_deref(), Some("authenticate_basic.invalid"));
    assert_eq!(with(&trial, "ann:other").status, 200);
}

#[test]
fn who_is_refused_learns_nothing_and_the_record_everything() {
    let disabled = SET.replace("groups: [managers]", "disabled: true");
    let (trial, shut) = (Trial::of_set(SET), Trial::of_set(&disabled));
    let told = |outcome: Outcome| {
        let mut body: serde_json::Value = serde_json::from_str(&outcome.body).unwrap();
        body["request_id"].take();
        let challenge = outcome.header("www-authenticate").unwrap().to_owned();
        ((outcome.status, body, challenge), outcome.record.detail.unwrap())
    };
    let wrong = told(with(&trial, "ann:wrong"));
    let unknown = told(with(&trial, "eve:wrong"));
    let disabled = told(with(&shut, "ann:correct horse"));
    assert!(wrong.0 == unknown.0 && wrong.0 == disabled.0, "{wrong:?} {unknown:?} {disabled:?}");
    let details = [&wrong.1, &unknown.1, &disabled.1];
    assert_eq!(details, ["wrong password", "unknown user", "disabled user"]);
}

#[test]
fn all_that_is_set_can_be_read_and_the_source_can_be_another() {
    let steps = "  - authenticate_basic: { directory: staff, realm: \"Orders\", from: { header: x-login, scheme: Login } }
  - respond: { json: { scheme: \"${auth.scheme}\", subject: \"${auth.subject}\", groups: \"${auth.groups}\", mail: \"${auth.attributes.mail ?? '-'}\", credential: \"${auth.credential}\" } }";
    let set = SET.split("  - authenticate_basic").next().unwrap().to_owned() + steps;
    let set = set.replace("groups: [managers]", "groups: [managers], attributes: { mail: a@example.com }");
    let trial = Trial::of_set(&set);
    let credential = BASE64.encode(b"ann:correct horse");
    let field = format!("LOGIN {credential}");
    let outcome = trial.send("GET", "/", &[("x-login", &field)], "");
    let wanted = serde_json::json!({ "scheme": "basic", "subject": "ann", "groups": ["managers"],
        "mail": "a@example.com", "credential": credential });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&outcome.body).unwrap(), wanted, "{outcome:?}");
    let elsewhere = with(&trial, "ann:correct horse");
    assert_eq!(elsewhere.fault.as_deref(), Some("authenticate_basic.missing"));
    assert_eq!(elsewhere.header("www-authenticate"), Some("Basic realm=\"Orders\", charset=\"UTF-8\""));
    let twice = trial.send("GET", "/", &[("x-login", &field), ("x-login", &field)], "");
    assert_eq!((twice.status, twice.fault.as_deref()), (400, Some("authenticate_basic.ambiguous")));
}

#[test]
fn a_password_is_forwarded_only_where_the_policy_says_so() {
    let set = |params: &str| {
        SET.split("  - authenticate_basic").next().unwrap().to_owned()
            + &format!("  - authenticate_basic: {{ directory: staff{params} }}\n  - route: http://127.0.0.1:9000\n")
    };
    let sent = |params: &str| with(&Trial::of_set(&set(params)), "ann:correct horse");
    assert_eq!(sent("").sent_header("authorization"), None);
    assert!(sent(", keep_credential: true").sent_header("authorization").is_some());
}

#[test]
fn where_too_many_checks_wait_the_caller_may_come_back_soon() {
    let trial = Trial::of_set(SET);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let running = trial.hashes().try_submit(move || {
        begun.send(()).unwrap();
        released.recv().unwrap();
    });
    has_begun.recv().unwrap();
    let waiting = trial.hashes().try_submit(|| ()).unwrap(); // the one place there is
    let busy = with(&trial, "ann:correct horse");
    assert_eq!((busy.status, busy.fault.as_deref()), (503, Some("authenticate_basic.busy")));
    assert_eq!(busy.header("retry-after"), Some("1"));
    release.send(()).unwrap();
    running.unwrap().blocking_recv().unwrap();
    waiting.blocking_recv().unwrap();
    assert_eq!(with(&trial, "ann:correct horse").status, 200, "and was not counted as a guess");
}
