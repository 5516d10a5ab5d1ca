//! Which key of a file is meant, and what operators are warned of.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Map, json};

use crate::assertions::trial::{Trial, codes, warnings};
use crate::jose::{Algorithm, SigningKey};
use crate::tls::testing::Folder;

const SERVICE: &str = "---\nservice: trial\nmatch: { path: \"/{*rest}\" }\npolicy: [{ respond: { status: 204 } }]\n";

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_private_key_that_others_may_read_is_warned_of() {
    let folder = Folder::new();
    let path = folder.0.join("key.der");
    std::fs::write(&path, &*SigningKey::generate(Algorithm::Es256).unwrap().to_pkcs8().unwrap()).unwrap();
    let yaml = format!("key: ours\nkind: private\nfrom: {{ file: {} }}\n{SERVICE}", path.display());
    for (mode, warned) in [(0o644, &["policy.open_key"][..]), (0o604, &["policy.open_key"]), (0o640, &[]), (0o600, &[])]
    {
        set_mode(&path, mode);
        assert_eq!(warnings(&yaml), warned, "{mode:o}");
    }
}

#[test]
fn tokens_of_a_session_that_others_may_read_are_warned_of() {
    let folder = Folder::new();
    let path = folder.write("crm.json", "{\"refresh_token\":\"r\"}");
    let yaml = format!(
        "secret: partner\nfrom: {{ env: PARTNER_SECRET }}\n---\noauth_session: crm\nkind: oauth2\ngrant: refresh_token\n\
         token_url: https://login.example/token\nclient: {{ id: gw, secret: {{ secret: partner }} }}\n\
         allowed_origins: [\"https://api.example\"]\nfile: {}\n{SERVICE}",
        path.display()
    );
    for (mode, warned) in [(0o644, &["policy.open_key"][..]), (0o602, &["policy.open_key"]), (0o600, &[])] {
        set_mode(&path, mode);
        assert_eq!(warnings(&yaml), warned, "{mode:o}");
    }
}

#[test]
fn a_key_of_a_set_is_meant_by_its_name() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|kid| SigningKey::generate(Algorithm::Es256).unwrap().named(kid));
    let path = folder.write("jwks.json", &json!({ "keys": [a.to_public_jwk(), b.to_public_jwk()] }).to_string());
    let set = |kid: &str| {
        format!(
            "key: idp\nkind: public\nfrom: {{ jwks_file: {}{kid} }}\n---\nidentity_provider: corp\nkind: jwt\nissuer: \
             https://idp\nkeys: {{ key: idp }}\naudience: orders\n---\nservice: trial\nmatch: {{ path: \"/{{*rest}}\" }}\n\
             policy: [{{ authenticate_jwt: corp }}, {{ respond: {{ status: 204 }} }}]\n",
            path.display()
        )
    };
    let claims = json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 }).to_string();
    let sent = |trial: &Trial, key: &SigningKey| {
        let token = key.sign(Algorithm::Es256, Map::new(), claims.as_bytes()).unwrap();
        trial.send("GET", "/", &[("authorization", &format!("Bearer {token}"))], "").fault
    };
    let (one, both) = (Trial::of_set(&set(", kid: b")), Trial::of_set(&set("")));
    assert_eq!((sent(&one, &b), sent(&one, &a).as_deref()), (None, Some("authenticate_jwt.unknown_key")));
    assert_eq!((sent(&both, &b), sent(&both, &a)), (None, None));
    assert_eq!(codes(&set(", kid: c")), ["policy.bad_key"]);
}

#[test]
fn a_shared_secret_for_tokens_is_long_enough() {
    let folder = Folder::new();
    for (bytes, refused) in [(31, &["policy.weak_key"][..]), (32, &[])] {
        let path = folder.write("secret", &"s".repeat(bytes));
        let yaml = format!(
            "secret: s\nfrom: {{ file: {} }}\n---\nkey: shared\nkind: symmetric\nfrom: {{ secret: s }}\nalgorithms: [HS256]\n{SERVICE}",
            path.display()
        );
        assert_eq!(codes(&yaml), refused, "{bytes}");
    }
}

#[test]
fn a_secret_is_read_as_it_is_written() {
    let folder = Folder::new();
    for (text, encoding, fits) in [
        ("plain\n", "utf8", true),
        ("6b6579\n", "hex", true),
        ("6b657\n", "hex", false),
        ("a2V5\n", "base64", true),
        ("a2V5LQ", "base64", false),
        ("a2V5LQ", "base64url", true),
        ("a2V5LQ==\r\n", "base64url", true),
    ] {
        let path = folder.write("secret", text);
        let yaml = format!("secret: s\nfrom: {{ file: {} }}\nencoding: {encoding}\n{SERVICE}", path.display());
        let refused: &[&str] = if fits { &[] } else { &["policy.secret_unreadable"] };
        assert_eq!(codes(&yaml), refused, "{text:?} {encoding}");
    }
    let path = folder.write("secret", "short");
    let of =
        |bytes: u32| codes(&format!("secret: s\nfrom: {{ file: {} }}\nmin_bytes: {bytes}\n{SERVICE}", path.display()));
    assert_eq!((of(5), of(6)), (vec![], vec!["policy.secret_unreadable"]));
}

#[test]
fn entries_and_a_file_are_one_directory() {
    let folder = Folder::new();
    let hash = bcrypt::hash("pw", 4).unwrap();
    let path = folder.write("staff.htpasswd", &format!("# people\nbob:{hash}\n"));
    let set = |name: &str| {
        format!(
            "users: staff\nentries:\n  {name}: {{ password: \"{hash}\" }}\nfile: {}\n---\nservice: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy: [{{ authenticate_basic: staff }}, {{ respond: {{ text: \"${{auth.subject}}\" }} }}]\n",
            path.display()
        )
    };
    let trial = Trial::of_set(&set("ann"));
    for name in ["ann", "bob"] {
        let field = format!("Basic {}", data_encoding::BASE64.encode(format!("{name}:pw").as_bytes()));
        assert_eq!(trial.send("GET", "/", &[("authorization", &field)], "").body, name);
    }
    assert_eq!(codes(&set("bob")), ["policy.bad_value"], "once here and once there");
    for clear in ["pw", "$apr1$abcdefgh$ijklmnopqrstuvwxyz0123", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="] {
        assert_eq!(codes(&set("ann").replace(&hash, clear)), ["policy.password_in_clear"], "{clear}");
    }
}
