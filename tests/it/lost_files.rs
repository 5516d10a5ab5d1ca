//! Files that are lost, or cannot be read, while a gateway serves, and what a restart makes of them.

use std::os::unix::net::UnixListener;

use crate::harness::{Folder, Gateway, command, hello};

#[test]
fn a_file_that_cannot_be_read_is_named_and_holds_up_no_reload() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    // Nobody can read a socket, not even the administrator.
    let socket = UnixListener::bind(gateway.folder.path("policies/s.yaml")).unwrap();
    let refused = gateway.ask_admin("POST", "/api/reload");
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("policy.unreadable") && refused.body.contains("s.yaml"), "{}", refused.body);
    gateway.folder.write("policies/b.yaml", &hello("b", "two"));
    drop(socket);
    std::fs::remove_file(gateway.folder.path("policies/s.yaml")).unwrap();
    assert_eq!(gateway.ask_admin("POST", "/api/reload").status, 200);
    assert_eq!(gateway.get("/b").body, "two");
}

#[test]
fn folders_that_have_lost_everything_are_not_taken() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    gateway.logged("the set is kept");
    std::fs::remove_file(gateway.folder.path("policies/a.yaml")).unwrap();
    let refused = gateway.ask_admin("POST", "/api/reload");
    assert!(refused.status == 422 && refused.body.contains("reload.emptied"), "{}", refused.body);
    assert_eq!(gateway.get("/a").body, "one");
    // A restart finds the same, and serves what was kept.
    let gateway = Gateway::serve(gateway.kill());
    assert_eq!(gateway.get("/a").body, "one");
    assert_eq!(gateway.ask_admin("GET", "/readyz").json()["serving_last_good"], true);
}

#[test]
fn the_kept_set_serves_however_the_configuration_is_spelled() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    gateway.logged("the set is kept");
    gateway.folder.write("policies/a.yaml", "service: [");
    let folder = gateway.kill();
    let mut other = command(&folder.0);
    other.arg("run").arg("--config").arg(folder.path("gateway.yaml"));
    assert_eq!(Gateway::serve_by(folder, other).get("/a").body, "one");
}

#[test]
fn nothing_to_serve_from_the_start_is_fine() {
    let gateway = Gateway::serve(Folder::with(&[]));
    assert_eq!(gateway.get("/a").status, 404);
    gateway.folder.write("policies/a.yaml", &hello("a", "one"));
    assert_eq!(gateway.ask_admin("POST", "/api/reload").status, 200);
    assert_eq!(gateway.get("/a").body, "one");
}
