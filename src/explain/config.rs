//! Codes of gateway.yaml, and of reloads that failed for a reason in no file.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "config.unreadable",
        "The configuration cannot be read.",
        "Name a file that is there and that the gateway's user may read.",
        "gatewright run --config gateway.yaml",
    ),
    page(
        "config.one_document",
        "gateway.yaml holds more than one document.",
        "Policies stand in files of their own, below the folder `policies`.",
        "",
    ),
    page(
        "config.not_supported",
        "The key belongs to a later version; nothing would follow from it now.",
        "Take it out. `counters: memory` and `scrub: []` are taken, because they state what holds anyway.",
        "",
    ),
    page(
        "config.out_of_range",
        "A limit is so low that nothing would work, or so high that it would bound nothing.",
        "Write a value inside the range that the message names, or leave the limit out.",
        "limits: { h2_streams: 100, h2_window: 64KiB }",
    ),
    page(
        "config.bad_version",
        "This program does not speak that version of the policy language.",
        "Write version 1.",
        "version: 1",
    ),
    page(
        "config.bad_address",
        "A listener's address is none.",
        "Write an IP address and a port, `unix:` and the path of a socket, or `systemd:` and the name of a passed one. Names are not looked up.",
        "address: 127.0.0.1:8080",
    ),
    page(
        "config.bad_mode",
        "The mode of a Unix socket is none, or stands on a listener that has no file.",
        "Write octal digits as for chmod. Without it only the gateway's own user may connect.",
        "{ name: local, address: unix:/run/gatewright/main.sock, mode: \"660\" }",
    ),
    page(
        "config.admin_not_loopback",
        "The admin interface would be reachable from other machines, and it asks for no credential in this version.",
        "Let it listen on loopback.",
        "admin: { address: 127.0.0.1:9901 }",
    ),
    page(
        "config.bad_network",
        "A trusted proxy is no network.",
        "Write a network or an address.",
        "trusted_proxies: [10.0.0.0/8]",
    ),
    page(
        "config.no_listener",
        "The list of listeners is empty.",
        "Name one, or leave the key out for 127.0.0.1:8080.",
        "listeners: [{ name: main, address: 127.0.0.1:8080 }]",
    ),
    page(
        "config.duplicate_name",
        "A name stands twice where names have to be different.",
        "Rename or remove one of them.",
        "",
    ),
    page("config.duplicate_address", "Two listeners want the same address.", "Give each a port of its own.", ""),
    page(
        "config.bad_workers",
        "The number of workers is none, or out of range.",
        "Write `auto` for one per core, or a number.",
        "workers: auto",
    ),
    page(
        "config.bad_poll",
        "`poll` says nothing about polling.",
        "Write `auto`, `off` or a duration.",
        "reload: { poll: 5s }",
    ),
    page(
        "config.bad_name",
        "This cannot be the name of an environment variable.",
        "Letters, digits and `_`, not first a digit.",
        "env: [STAGE]",
    ),
    page(
        "config.bad_guessing",
        "The pauses after failed guesses contradict each other.",
        "Count at least one failure, and let `pause_max` be at least `pause`.",
        "guessing: { failures: 10, within: 5m, pause: 5m, pause_max: 15m }",
    ),
    page(
        "config.contradiction",
        "Two keys cannot hold together.",
        "Remove one of them.",
        "audit: { file: audit.jsonl, rotate: 100MiB }",
    ),
    page(
        "config.bad_tls",
        "`tls:` does not say what the listener presents, or names a version that is not spoken.",
        "Name a certificate and its key; TLS 1.2 and 1.3 are spoken.",
        "tls: { certificate: certs/gw.pem, key: certs/gw.key, min: \"1.3\" }",
    ),
    page(
        "config.bad_certificate",
        "The files of a listener's TLS cannot be read, or do not belong together.",
        "The certificate's file holds it and its chain in PEM form, the leaf first; the key's file holds its private key without a passphrase.",
        "tls: { certificate: certs/gw.pem, key: certs/gw.key }",
    ),
    page(
        "config.open_key",
        "A warning: everybody on this machine may read a private key.",
        "Let only the gateway's user and its group read it.",
        "chmod 640 certs/gw.key",
    ),
    page(
        "config.bad_otlp",
        "`otlp:` names no collector, a part of the traces that is none, or a header field that cannot be sent.",
        "Write the URL of an OTLP receiver over HTTP; keep credentials in the environment or in files.",
        "otlp: { endpoint: \"http://127.0.0.1:4318\", sample: 10%, headers: { authorization: { env: OTLP_TOKEN } } }",
    ),
    page(
        "config.not_built",
        "The program was built without the part that a key needs; nothing would follow from the key.",
        "Take the key out, or install a build with the cargo feature of that name, which is on by default.",
        "cargo build --release --features otlp",
    ),
    page(
        "config.zero",
        "A limit of zero would let nothing through.",
        "Leave the key out for its default, or write what you can bear.",
        "limits: { body_buffered: 1MiB }",
    ),
    page(
        "reload.emptied",
        "The folders of the policies hold no service any more, where there were some: a mount may be lost, or a deployment half done. What served goes on.",
        "Bring the files back. Should there be none from now on, stop the gateway, remove `last-good-set` from its `state:`, start it again.",
        "",
    ),
    page(
        "reload.failed",
        "The changed files were not taken for a reason that stands in none of them: a policy test failed, or the gateway itself did.",
        "Read the message; run `gatewright test` and `gatewright check` on the same files.",
        "",
    ),
];
