//! Keys as other programs write them: every form that an operator may have in a file gives the same key.

use std::process::Command;

use gatewright::jose::{Algorithm, Algorithms, Compact, public_keys, signing_key};
use serde_json::Map;

use crate::harness::Folder;

fn openssl(folder: &Folder, arguments: &str) {
    let said = Command::new("openssl").args(arguments.split(' ')).current_dir(&folder.0).output().unwrap();
    assert!(said.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&said.stderr));
}

/// Writes a key in each form, with the public half and a certificate of it.
fn forms(folder: &Folder, kind: &str) {
    match kind {
        "rsa" => {
            openssl(folder, "genrsa -traditional -out old.pem 2048"); // PKCS#1
            openssl(folder, "rsa -in old.pem -traditional -outform DER -out old.der");
        }
        _ => {
            openssl(folder, "ecparam -name prime256v1 -genkey -noout -out old.pem"); // SEC1
            openssl(folder, "ec -in old.pem -outform DER -out old.der");
        }
    }
    openssl(folder, "pkcs8 -topk8 -nocrypt -in old.pem -out new.pem");
    openssl(folder, "pkcs8 -topk8 -nocrypt -in old.pem -outform DER -out new.der");
    openssl(folder, "pkey -in old.pem -pubout -out public.pem");
    openssl(folder, "pkey -in old.pem -pubout -outform DER -out public.der");
    openssl(folder, "req -x509 -new -key old.pem -subj /CN=a -days 9 -out certificate.pem");
    openssl(folder, "x509 -in certificate.pem -outform DER -out certificate.der");
}

#[test]
fn every_form_of_a_key_is_that_key() {
    for (kind, algorithm) in [("rsa", Algorithm::Ps256), ("ec", Algorithm::Es256)] {
        let folder = Folder::new();
        forms(&folder, kind);
        let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
        for private in ["old.pem", "old.der", "new.pem", "new.der"] {
            let key = signing_key(&read(private), None).unwrap_or_else(|why| panic!("{kind} {private}: {why}"));
            let token = key.sign(algorithm, Map::new(), b"{}").unwrap();
            for public in ["public.pem", "public.der", "certificate.pem", "certificate.der"] {
                let keys = public_keys(&read(public), None, Algorithms::all());
                let keys = keys.unwrap_or_else(|why| panic!("{kind} {public}: {why}"));
                let verified = keys.verify(&Compact::parse(&token).unwrap(), Algorithms::all());
                assert!(verified.is_ok(), "{kind} {private} {public}: {verified:?}");
            }
        }
    }
}

#[test]
fn a_key_of_rsa_that_is_too_short_is_none() {
    let folder = Folder::new();
    openssl(&folder, "genrsa -out short.pem 1024");
    openssl(&folder, "pkey -in short.pem -pubout -out public.pem");
    let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert!(signing_key(&read("short.pem"), None).is_err());
    assert!(public_keys(&read("public.pem"), None, Algorithms::all()).is_err());
}
