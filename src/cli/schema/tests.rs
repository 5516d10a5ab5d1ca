//! The committed copies are what the program says.

use super::*;

#[test]
fn the_committed_schemas_are_what_the_program_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("docs/schema");
    let own = own_assertions(Some(&root.join("gateway.yaml"))).unwrap();
    for (name, which) in FILES {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let said = print::text(&which.schema(&own));
        assert!(
            committed == said,
            "docs/schema/{name} is stale: run `cargo run -- schema --config gateway.yaml --out docs/schema` and commit it"
        );
    }
}

#[test]
fn own_assertions_are_steps() {
    let text = "assertion: check_tenant\nsummary: Knows tenants\n\
                inputs: { tenant: { type: string, required: true }, mode: { type: string, one_of: [a, b], default: a } }\n\
                policy: [stop]\n";
    let parsed = parse_files(&Files::of_text("a.yaml", text), &mut Diagnostics::new());
    let schema = Which::Policy.schema(&parsed.documents.assertions);
    let parameters = schema.pointer("/definitions/check_tenant/then").unwrap();
    assert_eq!(parameters["required"], json!(["tenant"]));
    assert_eq!(parameters["properties"]["mode"]["default"], "a");
    let steps = schema.pointer("/definitions/step").unwrap().to_string();
    assert!(steps.contains("check_tenant_step"), "{steps}");
}
