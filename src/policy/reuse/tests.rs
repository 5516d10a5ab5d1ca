//! Whatever is edited in whatever order: a load that reuses comes to the same as one that begins with nothing.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::assertions::trial::Trial;
use crate::engine::snapshot::Snapshot;
use crate::engine::worker::Records;
use crate::policy::build::{Environment, Parsed, compile, compile_again, parse_again, parse_files};
use crate::policy::files::{Files, PolicyFile};
use crate::policy::reuse::Reuse;
use crate::policy::testing;
use crate::source::{Diagnostics, render, to_json};

/// Sequences of edits, and edits of each.
const SEQUENCES: u64 = 12;
const EDITS: usize = 40;

/// Files, and what may stand in each of them; the first is what a sequence begins with, `""` is no file.
const FILES: [(&str, &[&str]); 9] = [
    (
        "a.yaml",
        &[
            "service: a\nmatch: { path: /a }\npolicy:\n  - include: f\n  - respond: { json: \"${list('words')}\" }\n",
            "# a comment\nservice: a\nmatch: { path: /a }\npolicy:\n  - include: f\n  - respond: { json: \"${list('words')}\" }\n",
            "service: a\nmatch: { path: /a }\npolicy:\n  - include: g\n  - respond: { json: \"${list('word')}\" }\n",
            "service: a\nmatch: { path: /b }\npolicy:\n  - respond: { file: BASE/page }\n",
            "service: a\nmatch: { path: /a }\npolicy:\n  - respnd: 200\n",
            "service: a\nmatch: { path: [\n",
            "",
        ],
    ),
    (
        "assertion.yaml",
        &[
            "assertion: own\ninputs: { word: { type: string } }\noutputs: { said: string }\npolicy:\n  - set: { said: \"one ${input.word}\" }\n",
            "# moved\nassertion: own\ninputs: { word: { type: string } }\noutputs: { said: string }\npolicy:\n  - include: f\n  - set: { said: \"two\" }\n",
            "assertion: own\ninputs: { word: { type: int } }\noutputs: { said: string }\npolicy:\n  - set: { said: \"three\" }\n",
            "assertion: own\ninput: { word: { type: string } }\npolicy: []\n",
            "assertion: owned\npolicy:\n  - log: x\n",
            "",
        ],
    ),
    (
        "b.yaml",
        &[
            "service: b\nmatch: { path: /b }\npolicy:\n  - respond: { text: \"${len(list('words'))}\" }\n",
            "service: b\nmatch: { path: /b }\nwithout: all\npolicy:\n  - respond: { text: b }\ntests:\n  - name: t\n    \
             given: { lists: { words: [x] } }\n    request: { path: /b }\n    expect: { status: 200 }\n",
            "service: b\nmatch: { path: /b }\npolicy:\n  - own: { word: w }\n  - respond: { text: \"${own.said}\" }\n",
            "service: b\nmatch: { path: /b }\nwithout: other\npolicy:\n  - route: { to: { upstream: u, path: /b } }\n",
            "",
        ],
    ),
    (
        "defaults.yaml",
        &[
            "",
            "defaults: all\nbefore:\n  - set_headers: { x-a: one }\n",
            "defaults: all\nservices: b*\nbefore:\n  - include: f\non_fault:\n  - respond: { status: 418 }\n",
            "defaults: other\nfinally:\n  - log: done\n",
        ],
    ),
    (
        "fragment.yaml",
        &[
            "fragment: f\npolicy:\n  - set: { seen: 1 }\n",
            "\n\nfragment: f\npolicy:\n  - set: { seen: 2 }\n",
            "fragment: f\npolicy:\n  - set: { sen: \"${nothing}\" }\n---\nfragment: g\npolicy:\n  - set: { seen: 2 }\n",
            "fragment: g\npolicy:\n  - log: g\n",
            "",
        ],
    ),
    (
        "other.yaml",
        &[
            "",
            "service: b\nmatch: { path: /other }\npolicy:\n  - respond: 204\n",
            "service: c\nmatch: { path: /a }\npolicy:\n  - respond: 204\n",
            "mystery: c\n",
            "tests: b\ncases:\n  - name: t\n    given: { lists: { wrods: [] } }\n    request: {}\n    expect: { status: 200 }\n",
        ],
    ),
    (
        "upstream.yaml",
        &[
            "upstream: u\ntargets: http://127.0.0.1:9000\n",
            "# moved\nupstream: u\ntargets: http://127.0.0.1:9000\n",
            "upstream: u\ntargets: http//127.0.0.1\n",
            "upstream: v\ntargets: http://127.0.0.1:9000\n",
            "",
        ],
    ),
    (
        "words.yaml",
        &[
            "list: words\nentries: [one]\n",
            "# moved\nlist: words\nentries: [one]\n",
            "list: words\nentries: [one, two]\n",
            "list: words\nfile: BASE/page\n",
            "list: words\nfile: BASE/nothing\n",
            "list: word\nentries: [three]\n",
            "",
        ],
    ),
    ("z.yaml", &["", "service: z\nmatch: { path: /z }\npolicy:\n  - respond: { text: z }\n"]),
];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

fn files(chosen: &[usize], base: &Path) -> Files {
    let texts = FILES.iter().zip(chosen).map(|((name, texts), chosen)| (name, texts[*chosen]));
    let file = |(name, text): (&&str, &str)| {
        let text = text.replace("BASE/", "").replace("nothing", &base.join("nothing").to_string_lossy());
        PolicyFile::new(Path::new(name), text.into_bytes())
    };
    Files::of(texts.filter(|(_, text)| !text.is_empty()).map(file).collect())
}

/// Everything that a load has to say, and what the snapshot answers.
fn said(parsed: &Parsed, snapshot: Option<Snapshot>, diags: &mut Diagnostics) -> String {
    let cases = testing::collect(parsed, diags);
    diags.deduplicate();
    let mut all = format!(
        "{}\n{}\n{} {}\n{} cases\n",
        parsed.version,
        render(&parsed.sources, diags, false),
        to_json(&parsed.sources, diags),
        diags.has_errors(),
        cases.len(),
    );
    let Some(snapshot) = snapshot else { return all };
    for service in &snapshot.services {
        // Files are numbered as they come: what counts is the place that a number means.
        let steps =
            service.steps.iter().map(|step| (&step.name, &step.place, &step.path, &step.reads, &step.explained));
        let (steps, plan, names) = (steps.collect::<Vec<_>>(), &service.plan, &service.names);
        let ops = [&service.main, &service.on_fault, &service.finally].map(|program| program.ops.len());
        all += &format!("{:?} {} {:?}\n", service.name, service.file, service.rule);
        all += &format!("{steps:?} {plan:?} {names:?} {ops:?} {} {:?}\n", service.slots, service.owned_headers);
    }
    let trial = Trial::serving(Arc::new(snapshot), Records::Kept(RefCell::default()));
    for path in ["/a", "/b", "/c", "/z", "/other"] {
        let outcome = trial.get(path);
        all += &format!("{path}: {} {:?} {}\n", outcome.status, outcome.header("x-a"), outcome.body);
    }
    all
}

#[test]
fn a_load_that_reuses_comes_to_the_same_as_a_cold_one() {
    let base = std::env::temp_dir().join(format!("gatewright-reuse-{}", std::process::id()));
    std::fs::create_dir_all(&base).unwrap();
    let mut environment = Environment::default();
    environment.values.base = base.clone();
    let (mut good, mut broken) = (0, 0);
    for sequence in 1..=SEQUENCES {
        let mut numbers = Numbers(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut chosen = vec![0; FILES.len()];
        let mut reuse = Reuse::default();
        std::fs::write(base.join("page"), "first\n").unwrap();
        for edit in 0..EDITS {
            let files = files(&chosen, &base);
            let mut diags = Diagnostics::new();
            let parsed = parse_again(&files, &mut reuse, &mut diags);
            let warm = compile_again(&parsed, &environment, None, &mut reuse, &mut diags);
            let warm = said(&parsed, warm.map(|compiled| compiled.snapshot), &mut diags);
            let mut diags = Diagnostics::new();
            let parsed = parse_files(&files, &mut diags);
            let cold = compile(&parsed, &environment, None, None, &mut diags);
            *if cold.is_some() { &mut good } else { &mut broken } += 1;
            let cold = said(&parsed, cold, &mut diags);
            assert!(warm == cold, "sequence {sequence}, edit {edit}, {chosen:?}\nwarm:\n{warm}\ncold:\n{cold}");
            match numbers.below(FILES.len() + 1) {
                // Every other edit mends a file, or most sets would be broken somewhere.
                file if file < FILES.len() => {
                    chosen[file] = numbers.below(2) * numbers.below(FILES[file].1.len());
                }
                _ => std::fs::write(base.join("page"), format!("page {}\n", numbers.below(3))).unwrap(),
            }
        }
    }
    std::fs::remove_dir_all(base).unwrap();
    assert!(good > 50 && broken > 50, "{good} good and {broken} broken sets");
}

/// A process that loads again and again.
struct Loads {
    reuse: Reuse,
    last: Option<(Snapshot, Parsed)>,
}

impl Loads {
    fn of(texts: &[(&str, &str)]) -> Loads {
        let mut loads = Loads { reuse: Reuse::default(), last: None };
        loads.load(texts);
        loads
    }

    /// Loads these files; names of the services that were compiled anew.
    fn load(&mut self, texts: &[(&str, &str)]) -> Vec<String> {
        let list = texts.iter().map(|(name, text)| PolicyFile::new(&PathBuf::from(name), text.as_bytes().to_vec()));
        let files = Files::of(list.collect());
        let mut diags = Diagnostics::new();
        let parsed = parse_again(&files, &mut self.reuse, &mut diags);
        let environment = Environment { listeners: vec!["main".into(), "other".into()], ..Environment::default() };
        let compiled = compile_again(&parsed, &environment, None, &mut self.reuse, &mut diags);
        let snapshot = compiled.unwrap_or_else(|| panic!("{}", render(&parsed.sources, &diags, false))).snapshot;
        let old = self.last.as_ref().map(|(old, _)| &*old.services).unwrap_or_default();
        let is_new = |service: &&Arc<_>| !old.iter().any(|old| Arc::ptr_eq(old, service));
        let names = snapshot.services.iter().filter(is_new).map(|service| service.name.clone().unwrap().to_string());
        let names = names.collect();
        self.last = Some((snapshot, parsed));
        names
    }

    fn untested(&self) -> Vec<String> {
        let (_, parsed) = self.last.as_ref().unwrap();
        self.reuse.untested(parsed, true).iter().map(ToString::to_string).collect()
    }

    fn pass_all(&mut self) {
        let (_, parsed) = self.last.as_ref().unwrap();
        let all = self.reuse.untested(parsed, true);
        let cases = testing::collect_for(parsed, |suite| all.contains(suite), &mut Diagnostics::new());
        let environment = Environment { listeners: vec!["main".into(), "other".into()], ..Environment::default() };
        let report = testing::run(parsed, &environment, &cases, &testing::Options::default()).unwrap();
        assert!(report.is_good());
        self.reuse.passed(parsed, all.iter(), true, &report.reached);
    }
}

const A: &str = "service: a\nmatch: { path: /a }\npolicy:\n  - include: f\n  - respond: 204\n";
const B: &str = "service: b\nmatch: { path: /b }\npolicy:\n  - respond: { json: \"${list('words')}\" }\n";
const F: &str = "fragment: f\npolicy:\n  - log: one\n";
const WORDS: &str = "list: words\nentries: [one]\n";

#[test]
fn only_what_changed_and_what_depends_on_it_is_compiled() {
    let mut loads = Loads::of(&[("a", A), ("b", B), ("f", F), ("w", WORDS)]);
    assert!(loads.load(&[("a", A), ("b", B), ("f", F), ("w", WORDS)]).is_empty());
    assert_eq!(loads.load(&[("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("w", WORDS)]), ["a"]);
    let words = WORDS.replace("one", "two");
    assert_eq!(loads.load(&[("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("w", &words)]), ["b"]);
    // A resource is what it says, not where it stands.
    let moved = format!("# moved\n{words}");
    assert!(loads.load(&[("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("w", &moved)]).is_empty());
    // A file that comes before all others moves none of them.
    let first = "service: first\nmatch: { path: /first }\npolicy:\n  - respond: 204\n";
    let now = [("0", first), ("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("w", &moved)];
    assert_eq!(loads.load(&now), ["first"]);
}

#[test]
fn tests_run_again_where_the_service_or_its_tests_have_changed() {
    let mut loads = Loads::of(&[("a", A), ("b", B), ("f", F), ("w", WORDS)]);
    assert_eq!(loads.untested(), ["a", "b"]);
    loads.pass_all();
    assert!(loads.untested().is_empty());
    loads.load(&[("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("w", WORDS)]);
    assert_eq!(loads.untested(), ["a"]);
    loads.pass_all();
    let tests = "tests: b\ncases: []\n";
    loads.load(&[("a", A), ("b", B), ("f", &format!("# moved\n{F}")), ("t", tests), ("w", WORDS)]);
    assert_eq!(loads.untested(), ["b"]);
    // What failed is not forgotten by a change elsewhere.
    loads.load(&[("a", &format!("# moved\n{A}")), ("b", B), ("f", F), ("t", tests), ("w", WORDS)]);
    assert_eq!(loads.untested(), ["a", "b"]);
}

#[test]
fn a_match_rule_that_changes_runs_the_tests_of_all_services_again() {
    const WIDE: &str = "service: a\nmatch: { path: \"/{*rest}\" }\npolicy:\n  - respond: 204\n";
    const ONE: &str =
        "service: one\nmatch: { path: /one, host: a.example, methods: [GET, PUT] }\npolicy:\n  - respond: 204\n";
    const NONE: &str = "# nothing";
    // Each takes requests from `a`, or gives some back.
    let changes: [(&str, &str); 5] = [
        ("path: /one", "path: /two"),
        ("host: a.example", "host: \"*.example\""),
        (", host: a.example", ""),
        ("[GET, PUT]", "[GET]"),
        ("policy:", "listeners: [other]\npolicy:"),
    ];
    for (before, after) in changes {
        let mut loads = Loads::of(&[("a", WIDE), ("one", ONE)]);
        loads.pass_all();
        assert!(loads.untested().is_empty());
        let changed = ONE.replace(before, after);
        assert_ne!(changed, ONE);
        assert_eq!(loads.load(&[("a", WIDE), ("one", &changed)]), ["one"], "only it is compiled");
        assert_eq!(loads.untested(), ["a", "one"], "{before} -> {after}");
    }
    // A new service may take requests too, and one that is gone leaves them to others.
    let mut loads = Loads::of(&[("a", WIDE)]);
    loads.pass_all();
    loads.load(&[("a", WIDE), ("one", ONE)]);
    assert_eq!(loads.untested(), ["a", "one"]);
    loads.pass_all();
    loads.load(&[("a", WIDE), ("one", NONE)]);
    assert_eq!(loads.untested(), ["a"]);
    loads.pass_all();
    // Its steps are its own matter.
    loads.load(&[("a", WIDE), ("one", ONE)]);
    loads.pass_all();
    loads.load(&[("a", WIDE), ("one", &ONE.replace("204", "205"))]);
    assert_eq!(loads.untested(), ["one"]);
}

#[test]
fn tests_run_again_where_a_service_that_they_go_through_has_changed() {
    let through = "service: a\nmatch: { path: /a }\npolicy:\n  - respond: 204\ntests:\n  - name: both\n    exchanges:\n      \
                   - { request: { path: /one }, expect: { status: 204 } }\n      - { request: {}, expect: { status: 204 } }\n";
    let one = "service: one\nmatch: { path: /one }\npolicy:\n  - respond: 204\n";
    let other = one.replace("one", "other");
    let mut loads = Loads::of(&[("a", through), ("one", one), ("other", &other)]);
    loads.pass_all();
    assert!(loads.untested().is_empty());
    loads.load(&[("a", through), ("one", one), ("other", &other.replace("204", "205"))]);
    assert_eq!(loads.untested(), ["other"]);
    loads.pass_all();
    loads.load(&[("a", through), ("one", &one.replace("204", "205")), ("other", &other.replace("204", "205"))]);
    assert_eq!(loads.untested(), ["a", "one"]);
}
