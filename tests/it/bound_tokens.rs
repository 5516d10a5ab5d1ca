//! Tokens that are bound to a client certificate (RFC 8705 §3), over real mutual TLS.

use std::process::Command;

use data_encoding::BASE64URL_NOPAD;
use gatewright::jose::{Algorithm, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::authority::Authority;
use crate::harness::{Folder, Gateway};

const GATEWAY: &str = "\
listeners:
  - name: main
    address: 127.0.0.1:0
    tls: { certificate: gw.pem, key: gw.key, client_certificates: optional, client_ca: ca.pem }
admin: { address: 127.0.0.1:0 }
workers: 2
";

fn policy(key: &SigningKey) -> String {
    let jwks = json!({ "keys": [key.to_public_jwk()] });
    format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {jwks} }}\naudience: orders\n---\n\
         service: auto\nmatch: {{ path: /auto }}\npolicy:\n  - authenticate_jwt: corp\n  - respond: {{ text: passed }}\n---\n\
         service: mtls\nmatch: {{ path: /mtls }}\npolicy:\n  - authenticate_jwt: {{ issuer: corp, bound: mtls }}\n  \
         - respond: {{ text: passed }}\n"
    )
}

/// What `cnf` says of a certificate.
fn thumbprint(folder: &Folder, name: &str) -> String {
    let pem = CertificateDer::from_pem_file(folder.path(name)).unwrap();
    BASE64URL_NOPAD.encode(&Sha256::digest(&pem))
}

fn ask(gateway: &Gateway, path: &str, token: &str, certificate: Option<&str>) -> String {
    let file = |name: &str| gateway.folder.path(name).to_string_lossy().into_owned();
    let port = gateway.main.port();
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--max-time",
        "30",
        "--cacert",
        &file("ca.pem"),
        "--resolve",
        &format!("a.test:{port}:127.0.0.1"),
    ]);
    if let Some(name) = certificate {
        curl.args(["--cert", &file(&format!("{name}.pem")), "--key", &file(&format!("{name}.key"))]);
    }
    curl.args(["-H", &format!("authorization: Bearer {token}"), &format!("https://a.test:{port}{path}")]);
    let said = curl.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn a_bound_token_counts_with_its_certificate_and_with_no_other() {
    let (authority, key) = (Authority::new(), SigningKey::generate(Algorithm::Es256).unwrap());
    let folder = Folder::with(&[("gateway.yaml", GATEWAY), ("policies/orders.yaml", &policy(&key))]);
    authority.renew(&folder, &["a.test"]);
    folder.write("ca.pem", &authority.pem());
    authority.admit(&folder, &["owner.test"]);
    for kind in ["pem", "key"] {
        std::fs::rename(folder.path(&format!("client.{kind}")), folder.path(&format!("owner.{kind}"))).unwrap();
    }
    // The thief's names are the owner's: only the certificate itself tells them apart.
    authority.admit(&folder, &["owner.test"]);
    let mut claims = json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 });
    let mut signed = |cnf: Json| {
        claims["cnf"] = cnf;
        key.sign(Algorithm::Es256, Map::new(), claims.to_string().as_bytes()).unwrap()
    };
    let bound = signed(json!({ "x5t#S256": thumbprint(&folder, "owner.pem") }));
    let free = signed(Json::Null);
    let both = signed(json!({ "x5t#S256": thumbprint(&folder, "owner.pem"), "jkt": "x" }));
    let gateway = Gateway::serve(folder);
    // The first fills the memory of verified tokens: the others are held to the binding all the same.
    for path in ["/auto", "/mtls"] {
        assert_eq!(ask(&gateway, path, &bound, Some("owner")), "passed", "{path}");
        for certificate in [Some("client"), None] {
            let answer = ask(&gateway, path, &bound, certificate);
            assert!(answer.contains("authenticate_jwt.binding"), "{path} {certificate:?}: {answer}");
        }
        assert!(ask(&gateway, path, &both, Some("owner")).contains("authenticate_jwt.binding"), "{path}");
    }
    assert_eq!(ask(&gateway, "/auto", &free, None), "passed");
    assert!(ask(&gateway, "/mtls", &free, Some("owner")).contains("authenticate_jwt.binding"));
}
