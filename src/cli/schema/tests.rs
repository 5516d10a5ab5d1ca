//! The committed copies are what the program says.

use super::*;

#[test]
fn the_committed_schemas_are_what_the_program_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    for (name, which) in FILES {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let said = print::text(&which.schema());
        assert!(
            committed == said,
            "docs/schema/{name} is stale: run `cargo run -- schema --out docs/schema` and commit it"
        );
    }
}
