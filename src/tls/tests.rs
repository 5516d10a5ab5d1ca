//! Handshakes in memory, and files that change between them.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::testing::{Authority, Folder, files};
use super::*;

/// Shakes hands in memory; what the server saw, and the certificate that the client was shown.
fn shake(listening: &Listening, client: Arc<ClientConfig>, name: &str) -> Result<(Session, Vec<u8>), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(listening.config()).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut wire).unwrap();
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
        }
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
        }
        client.process_new_packets()?;
        wire.clear();
    }
    let shown = client.peer_certificates().unwrap()[0].to_vec();
    Ok((Session::of(&server).unwrap(), shown))
}

fn names(certificate: &[u8]) -> Vec<String> {
    resolver::leaf_facts(&certificate.to_vec().into()).unwrap().dns_names
}

#[test]
fn the_certificate_goes_by_the_name_that_is_asked_for() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let files = files(&folder.0, &authority, &[&["a.test"], &["*.b.test", "b.test"], &["x.b.test"]]);
    let listening = Listening::open(files).unwrap();
    for (asked, shown) in
        [("a.test", "a.test"), ("b.test", "*.b.test"), ("y.b.test", "*.b.test"), ("x.b.test", "x.b.test")]
    {
        let (session, certificate) = shake(&listening, authority.client(&[]), asked).unwrap();
        assert_eq!(names(&certificate)[0], shown, "{asked}");
        assert_eq!(session.server_name.as_deref(), Some(asked));
    }
    // A name that no certificate has is shown the first one, and the client says no.
    for asked in ["c.test", "z.y.b.test"] {
        let refused = shake(&listening, authority.client(&[]), asked).unwrap_err();
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{asked}: {refused}");
    }
}

#[test]
fn what_was_agreed_on_is_told() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let listening = Listening::open(files(&folder.0, &authority, &[&["a.test"]])).unwrap();
    let (session, _) = shake(&listening, authority.client(&[b"http/1.1"]), "a.test").unwrap();
    assert_eq!((session.version, session.alpn.as_deref()), ("1.3", Some("http/1.1")));
    assert!(session.cipher.starts_with("TLS_"), "{}", session.cipher);
    assert!(!session.cipher.starts_with("TLS_ECDHE"), "{}", session.cipher);
    let refused = shake(&listening, authority.client(&[b"spdy/3"]), "a.test").unwrap_err();
    assert!(matches!(refused, rustls::Error::NoApplicationProtocol), "{refused}");
}

#[test]
fn an_old_client_is_served_only_where_it_may_be() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let files = files(&folder.0, &authority, &[&["a.test"]]);
    let old = |authority: &Authority| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let listening = Listening::open(files.clone()).unwrap();
    let (session, _) = shake(&listening, old(&authority), "a.test").unwrap();
    assert_eq!(session.version, "1.2");
    assert!(session.cipher.starts_with("TLS_ECDHE_"), "{}", session.cipher);
    let listening = Listening::open(ListenerFiles { min: MinVersion::Tls13, ..files }).unwrap();
    assert!(shake(&listening, old(&authority), "a.test").is_err());
}

#[test]
fn changed_files_serve_as_soon_as_they_make_a_pair() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let listening = Listening::open(files(&folder.0, &authority, &[&["a.test", "old.test"]])).unwrap();
    let shown = || names(&shake(&listening, authority.client(&[]), "a.test").unwrap().1)[1].clone();
    assert_eq!(listening.look(), Look::Unchanged);
    let (certificate, key) = authority.sign(&["a.test", "new.test"]);
    // Half a file, then half a pair.
    for half in [&certificate[..certificate.len() / 2], &certificate] {
        folder.write("0.pem", half);
        let Look::Refused(problem) = listening.look() else { panic!("this was taken: {half}") };
        assert!(problem.path.starts_with(&folder.0), "{problem}");
        assert_eq!(listening.look(), Look::StillRefused);
        assert_eq!(listening.refused(), Some(problem));
        assert_eq!(shown(), "old.test");
    }
    folder.write("0.key", &key);
    assert_eq!(listening.look(), Look::Swapped);
    assert_eq!((listening.refused(), listening.look()), (None, Look::Unchanged));
    assert_eq!(shown(), "new.test");
}

#[test]
fn what_is_wrong_with_files_is_said_without_quoting_them() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let good = files(&folder.0, &authority, &[&["a.test"]]);
    let (certificate, key) = authority.sign(&["a.test"]);
    let secret = "-----BEGIN PRIVATE KEY-----\n!secret!\n-----END PRIVATE KEY-----\n";
    for (name, text, said) in [
        ("certificate", "", "a certificate in PEM form was expected"),
        ("certificate", key.as_str(), "a certificate in PEM form was expected"),
        ("key", certificate.as_str(), "a private key in PEM form without a passphrase was expected"),
        ("key", key.as_str(), "it is not the key of the certificate in"),
        ("key", secret, "its PEM form is broken"),
    ] {
        let path = folder.write("other.pem", text);
        let pair = match name {
            "key" => Pair { key: path, ..good.pairs[0].clone() },
            _ => Pair { certificate: path, ..good.pairs[0].clone() },
        };
        let problem = Listening::open(ListenerFiles { pairs: vec![pair], ..good.clone() }).unwrap_err();
        assert!(problem.text.contains(said), "{name}: {problem}");
        assert!(!problem.text.contains("secret"), "{problem}");
    }
    let missing = Pair { key: folder.0.join("missing"), ..good.pairs[0].clone() };
    let problem = Listening::open(ListenerFiles { pairs: vec![missing], ..good }).unwrap_err();
    assert!(problem.to_string().contains("missing: it cannot be read"), "{problem}");
}

/// A listener's files with clients of an authority.
fn asking(folder: &Folder, server: &Authority, clients: &Authority, required: bool, crl: Option<String>) -> Listening {
    let ca = folder.write("clients.pem", &clients.pem());
    let crls = crl.iter().map(|text| folder.write("clients.crl", text)).collect();
    let clients = Some(ClientFiles { ca, crls, required });
    Listening::open(ListenerFiles { clients, ..files(&folder.0, server, &[&["a.test"]]) }).unwrap()
}

#[test]
fn a_client_certificate_is_verified_and_told_of() {
    let (folder, server, clients) = (Folder::new(), Authority::new("server"), Authority::new("clients"));
    let good = server.client_as(&clients, "app", &["App.test"]);
    let foreign = server.client_as(&Authority::new("clients"), "app", &["app.test"]);
    for required in [false, true] {
        let listening = asking(&folder, &server, &clients, required, None);
        let certificate = shake(&listening, good.clone(), "a.test").unwrap().0.client.unwrap();
        assert_eq!((certificate.subject.to_string().as_str(), certificate.serial.as_str()), ("CN=app", "4d"));
        assert_eq!(
            (certificate.issuer.to_string().as_str(), &*certificate.san_dns),
            ("CN=clients", &["app.test".to_owned()][..])
        );
        assert_eq!((certificate.chain.len(), certificate.fingerprint_sha256.len()), (1, 64));
        assert!(shake(&listening, foreign.clone(), "a.test").is_err(), "a foreign one is never taken");
        let without = shake(&listening, server.client(&[]), "a.test");
        assert_eq!(without.is_ok(), !required);
        assert!(without.is_err() || without.is_ok_and(|(session, _)| session.client.is_none()));
    }
}

#[test]
fn what_is_revoked_is_not_taken() {
    let (folder, server, clients) = (Folder::new(), Authority::new("server"), Authority::new("clients"));
    let client = server.client_as(&clients, "app", &["app.test"]);
    for (on_it, taken) in [(false, true), (true, false)] {
        let listening = asking(&folder, &server, &clients, true, Some(clients.revocation_list(on_it)));
        assert_eq!(shake(&listening, client.clone(), "a.test").is_ok(), taken);
    }
    // A list of another authority covers nobody.
    let listening = asking(&folder, &server, &clients, true, Some(server.revocation_list(false)));
    assert!(shake(&listening, client, "a.test").is_err());
}

#[test]
fn a_policy_may_trust_fewer_than_the_listener() {
    let (folder, server, clients) = (Folder::new(), Authority::new("server"), Authority::new("clients"));
    let listening = asking(&folder, &server, &clients, true, None);
    let client = server.client_as(&clients, "app", &["app.test"]);
    let certificate = shake(&listening, client, "a.test").unwrap().0.client.unwrap();
    let now = certificate.not_before + 1;
    let trust = |authority: &Authority| ClientTrust::new(&[authority.der()], &Revocation::default()).unwrap().unwrap();
    assert_eq!(trust(&clients).verify(&certificate, now), Ok(()));
    assert_eq!(trust(&clients).verify(&certificate, certificate.not_after + 1), Err(Distrust::Expired));
    assert!(matches!(trust(&server).verify(&certificate, now), Err(Distrust::Untrusted(_))));
    assert!(ClientTrust::new(&[], &Revocation::default()).unwrap().is_none());
}
