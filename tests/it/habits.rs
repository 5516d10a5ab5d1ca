//! How editors and tools save files, and that state outlives what they do.

use std::os::unix::fs::symlink;

use crate::harness::{ANY_PORT, Folder, Gateway, hello};

fn one_and_limit() -> String {
    "service: a\nmatch: { path: /a }\npolicy:\n  - limit_rate: { per: all, rate: 1/hour }\n  - respond: { text: one }\n"
        .to_owned()
}

#[test]
fn an_edited_comment_resets_no_limit() {
    let gateway = Gateway::start(&[("policies/a.yaml", &one_and_limit())]);
    assert_eq!(gateway.get("/a").status, 200);
    assert_eq!(gateway.get("/a").status, 429);
    gateway.folder.write("policies/a.yaml", &format!("# a comment\n{}", one_and_limit()));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").status, 429);
    gateway.folder.write("policies/a.yaml", &one_and_limit().replace("one }", "two }"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").status, 429);
}

#[test]
fn the_way_vim_saves_leaves_one_set() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let file = |name: &str| gateway.folder.path("policies").join(name);
    gateway.folder.write("policies/.a.yaml.swp", "b0VIM 9.0");
    gateway.folder.write("policies/4913", "");
    std::fs::remove_file(file("4913")).unwrap();
    std::fs::rename(file("a.yaml"), file("a.yaml~")).unwrap();
    gateway.folder.write("policies/a.yaml", &hello("a", "two"));
    std::fs::remove_file(file("a.yaml~")).unwrap();
    std::fs::remove_file(file(".a.yaml.swp")).unwrap();
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn the_way_emacs_saves_leaves_one_set() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let file = |name: &str| gateway.folder.path("policies").join(name);
    symlink("user@host.1234:1700000000", file(".#a.yaml")).unwrap();
    gateway.folder.write("policies/#a.yaml#", "service: half");
    std::fs::copy(file("a.yaml"), file("a.yaml~")).unwrap();
    gateway.folder.write("policies/a.yaml", &hello("a", "two"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two", "with the lock and the copies still there");
    std::fs::remove_file(file(".#a.yaml")).unwrap();
    std::fs::remove_file(file("#a.yaml#")).unwrap();
    gateway.folder.write("policies/a.yaml", &hello("a", "three"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "three");
}

#[test]
fn a_file_that_is_emptied_before_it_is_written_takes_nothing_away() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    gateway.folder.write("policies/a.yaml", "");
    gateway.logged("the changed files are not taken");
    assert_eq!(gateway.get("/a").body, "one");
    gateway.folder.write("policies/a.yaml", &hello("a", "two"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn a_folder_of_links_is_swapped_as_a_mounted_configuration_is() {
    let folder =
        Folder::with(&[("policies/..one/a.yaml", &hello("a", "one")), ("policies/..two/a.yaml", &hello("a", "two"))]);
    let file = |name: &str| folder.path("policies").join(name);
    symlink("..one", file("..data")).unwrap();
    symlink("..data/a.yaml", file("a.yaml")).unwrap();
    let gateway = Gateway::serve(folder);
    assert_eq!(gateway.get("/a").body, "one");
    let file = |name: &str| gateway.folder.path("policies").join(name);
    symlink("..two", file("..data_tmp")).unwrap();
    std::fs::rename(file("..data_tmp"), file("..data")).unwrap();
    std::fs::remove_dir_all(file("..one")).unwrap();
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn a_policies_folder_that_is_a_link_is_swapped_whole() {
    let folder = Folder::with(&[("one/a.yaml", &hello("a", "one")), ("two/a.yaml", &hello("a", "two"))]);
    std::fs::remove_dir(folder.path("policies")).unwrap();
    symlink("one", folder.path("policies")).unwrap();
    let gateway = Gateway::serve(folder);
    for (target, said) in [("two", "two"), ("one", "one")] {
        symlink(target, gateway.folder.path("new")).unwrap();
        std::fs::rename(gateway.folder.path("new"), gateway.folder.path("policies")).unwrap();
        gateway.logged("reloaded");
        assert_eq!(gateway.get("/a").body, said);
    }
    // The folder that is linked to now is the one that is watched.
    gateway.folder.write("one/a.yaml", &hello("a", "three"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "three");
}

#[test]
fn a_change_that_raises_no_event_is_found_by_polling() {
    let config = format!("{ANY_PORT}reload: {{ poll: 50ms }}\n");
    let folder = Folder::with(&[("gateway.yaml", &config), ("elsewhere/a.yaml", &hello("a", "one"))]);
    // Events are told to the folder through which a file was written: this one is not watched.
    std::fs::hard_link(folder.path("elsewhere/a.yaml"), folder.path("policies/a.yaml")).unwrap();
    let gateway = Gateway::serve(folder);
    gateway.logged("the set is kept");
    gateway.folder.write("elsewhere/a.yaml", &hello("a", "two"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn a_replaced_file_of_the_same_size_and_time_is_noticed() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let path = gateway.folder.path("policies/a.yaml");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    gateway.folder.write("a.new", &hello("a", "two"));
    std::fs::File::options().write(true).open(gateway.folder.path("a.new")).unwrap().set_modified(modified).unwrap();
    std::fs::rename(gateway.folder.path("a.new"), &path).unwrap();
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn tests_that_do_not_fit_their_time_refuse_the_reload_and_say_how_many_ran() {
    let config = format!("{ANY_PORT}tests: {{ budget: 1ms }}\n");
    let gateway = Gateway::start(&[("gateway.yaml", &config), ("policies/a.yaml", &hello("a", "one"))]);
    let exchanges = "exchanges: [{ request: {}, repeat: 20000, expect: { status: 200 } }]";
    let cases = format!("  - name: t\n    {exchanges}\n  - name: u\n    {exchanges}\n");
    gateway.folder.write("policies/a.yaml", &format!("{}tests:\n{cases}", hello("a", "two")));
    let refused = gateway.logged("the changed files are not taken");
    assert!(refused["diagnostics"].as_str().unwrap().contains("of the policies' 2 tests ran within 1ms"), "{refused}");
    assert_eq!(gateway.get("/a").body, "one");
}
