//! The state of compiling one service, and what assertions ask of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::HeaderName;

use crate::broker::Session;
use crate::compile::blocks::Inside;
use crate::compile::flow::{Flow, Happened, IdentityRoot, Root};
use crate::compile::fragment::Fragment;
use crate::compile::kind::{Kind, Output};
use crate::compile::made::Made;
use crate::compile::named::Named;
use crate::compile::operator::{Frame, Operator};
use crate::compile::parallel::Written;
use crate::compile::resources::Resources;
use crate::compile::steps::Inner;
use crate::compile::text::Poured;
use crate::engine::exchange::Withheld;
use crate::engine::program::{Op, StepId, StepMeta};
use crate::engine::read::{Read, Side, Slot};
use crate::engine::scrubbing::RecordRules;
use crate::engine::snapshot::{BodyPlan, Names};
use crate::engine::value::{Facts, Mark, Text};
use crate::limits::Limits;
use crate::source::{Diagnostic, Diagnostics, Name, Sources, Span, suggest};

/// Variables of one service, at most: two never share a slot.
pub const VARIABLES_MAX: usize = 60_000;

/// Which program of a service is being compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    OnFault,
    Finally,
}

/// What stays the same for all services of a set of files.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub sources: &'a Sources,
    pub resources: &'a Resources,
    pub fragments: &'a Named<Fragment>,
    pub catalogue: &'static [&'static Kind],
    /// Operators' own assertions; one that is declared but broken stands as `None`.
    pub operators: &'a Named<Option<Operator>>,
    pub limits: &'a Limits,
}

/// Which bodies the step at hand has to see whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Needs {
    pub request: bool,
    pub response: bool,
}

/// Compiling one service.
pub struct Compile<'a> {
    pub around: Surroundings<'a>,
    pub diags: &'a mut Diagnostics,
    pub service: Text,
    /// Names of the match rule's path parameters, in their order.
    pub path_params: Vec<Text>,
    /// The one among them that keeps its slashes.
    pub rest_param: Option<Text>,
    pub part: Part,
    pub flow: Flow,
    pub steps: Vec<StepMeta>,
    pub plan: BodyPlan,
    pub owned_headers: Vec<HeaderName>,
    /// Cookies and query parameters that steps set for the upstream.
    pub owned_places: Vec<Withheld>,
    /// Where authenticate steps find credentials.
    pub credentials: Vec<Withheld>,
    /// The same of all steps of the service, where it was compiled before to find them.
    pub presented: Vec<Withheld>,
    /// A step behind a `route` that reads the request's body: routes must hold it.
    pub(super) late_request: Option<Text>,
    /// A step that holds the request's body so that it can be sent again.
    pub holds_to_replay: Option<StepId>,
    /// Routes whose messages must not be held.
    pub streams: Vec<Span>,
    /// `finally` reads fields of the answer.
    pub answer_headers_read: bool,
    /// What is scrubbed from records, wherever the steps stand.
    pub scrubs: Vec<RecordRules>,
    pub(super) needs: Needs,
    pub(super) current: StepId,
    pub(super) step_span: Span,
    pub(super) includes: Vec<Text>,
    /// The defaults whose steps are being compiled.
    pub defaults: Option<Text>,
    /// Fragments that were put in.
    pub included: Vec<Text>,
    /// The scope of the operator's assertion whose steps are being compiled.
    pub(super) frame: Option<Box<Frame>>,
    /// The assertions that are being put in, from the outermost.
    pub(super) operating: Vec<Text>,
    /// `answer.*` means the response just received (`success_when`).
    pub(super) answer_is_response: bool,
    /// `answer.*` means what the step at hand has just set.
    pub(super) answer_members: Option<BTreeMap<Text, (Slot, Facts)>>,
    /// What the step at hand stands in, from the outermost of the service, or of the operator's assertion.
    pub(super) inside: Vec<Inside>,
    /// Loops around the step at hand.
    pub looping: usize,
    /// Children of `parallel` around the step at hand, and what each has written so far.
    pub(super) children: Vec<Written>,
    /// Routes that other steps may have to follow with the same body, because they were an alternative.
    pub(super) replayed: BTreeSet<StepId>,
    /// Calls beside the request whose method is not safe.
    pub(super) unsafe_calls: BTreeSet<StepId>,
    /// A step did not compile: what follows from its absence is not reported.
    pub incomplete: bool,
    /// Variables that steps which did not compile might have set: that they are not there is not reported.
    pub(super) unsettled: BTreeSet<Text>,
    /// What is compiled is judged by itself, and others may set anything before it.
    pub knows_little: bool,
    /// What is wrong with parameters of the step at hand, which were left out.
    pub(super) mangled: Option<Diagnostics>,
    /// The steps inside of the step at hand, while that is judged.
    pub(super) inner: Option<Inner>,
    /// What the response is made of, as far as a step has made it.
    pub poured: Option<Poured>,
    /// Every root that any step has set, for `on_fault` and `finally`.
    ever: Flow,
    slots: HashMap<(Text, Text), Slot>,
    identities: HashMap<Text, Slot>,
    /// Variables that hold a credential on some way.
    marked: BTreeSet<Slot>,
    /// Reads of messages that give back a credential which a step has put there.
    put_back: Vec<Read>,
    /// The mark of all that texts of faults are made of.
    fault_text: Mark,
    /// What variables are made of.
    pub(super) made: HashMap<Slot, Made>,
    /// Steps that pass only callers who show a client certificate.
    pub wants_certificate: Vec<StepId>,
    /// Some text of the service reads `.credential` of an identity: then steps keep it.
    pub(super) credential_read: Arc<AtomicBool>,
}

impl<'a> Compile<'a> {
    /// Starts a service.
    pub fn new(around: Surroundings<'a>, diags: &'a mut Diagnostics, service: Text, path_params: Vec<Text>) -> Self {
        // `auth` is always the first identity, so that records find it.
        let identities = HashMap::from([(Text::from("auth"), Slot(0))]);
        Compile {
            around,
            diags,
            service,
            path_params,
            rest_param: None,
            part: Part::Main,
            flow: Flow::default(),
            steps: Vec::new(),
            plan: BodyPlan::default(),
            owned_headers: Vec::new(),
            owned_places: Vec::new(),
            credentials: Vec::new(),
            presented: Vec::new(),
            late_request: None,
            holds_to_replay: None,
            streams: Vec::new(),
            answer_headers_read: false,
            scrubs: Vec::new(),
            needs: Needs::default(),
            current: 0,
            step_span: Span::NOWHERE,
            includes: Vec::new(),
            defaults: None,
            included: Vec::new(),
            frame: None,
            operating: Vec::new(),
            answer_is_response: false,
            answer_members: None,
            inside: Vec::new(),
            looping: 0,
            children: Vec::new(),
            replayed: BTreeSet::new(),
            unsafe_calls: BTreeSet::new(),
            incomplete: false,
            unsettled: BTreeSet::new(),
            knows_little: false,
            mangled: None,
            inner: None,
            poured: None,
            ever: Flow::default(),
            slots: HashMap::new(),
            identities,
            marked: BTreeSet::new(),
            put_back: Vec::new(),
            fault_text: Mark::None,
            made: HashMap::new(),
            wants_certificate: Vec::new(),
            credential_read: Arc::default(),
        }
    }

    /// Reports something.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diags.push(diagnostic);
    }

    /// Reports an error and gives `None`, so that `return cx.refuse(..)` reads well.
    pub fn refuse<T>(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) -> Option<T> {
        let diagnostic = Diagnostic::error(code, span, message);
        self.report(if help.is_empty() { diagnostic } else { diagnostic.with_help(help) });
        None
    }

    /// How many variables and identities the service needs room for.
    pub fn room(&self) -> (usize, usize) {
        (self.slots.len(), self.identities.len())
    }

    /// Names of all variables and identities of the service.
    pub fn names(&self) -> Names {
        let name = |(root, member): &(Text, Text)| match &**member {
            "" => root.clone(),
            member => format!("{root}.{member}").into(),
        };
        let mut variables: Vec<_> = self.slots.iter().map(|(key, slot)| (name(key), *slot)).collect();
        let mut identities: Vec<_> = self.identities.iter().map(|(name, slot)| (name.clone(), *slot)).collect();
        variables.sort();
        identities.sort();
        let (marked, path) = (self.marked.iter().copied().collect(), self.path_params.clone());
        Names { variables, identities, marked, put_back: self.put_back.clone(), path }
    }

    /// The step at hand.
    pub fn current(&self) -> StepId {
        self.current
    }

    /// The assertion at hand, with which the codes of its faults begin.
    pub fn assertion(&self) -> Text {
        self.steps.get(usize::from(self.current)).map_or_else(|| "policy".into(), |step| step.assertion.clone())
    }

    /// Where the step at hand stands, for messages about what is not written at all.
    pub fn step_span(&self) -> Span {
        self.step_span
    }

    /// Remembers what has been set, also on ways that end.
    pub(super) fn remember(&mut self) {
        let carried = std::mem::take(&mut self.ever.carried).join(self.flow.carried.clone());
        self.ever.carried = carried;
        if self.frame.is_some() {
            return; // only what comes out of an assertion is of the service
        }
        self.ever.writers = std::mem::take(&mut self.ever.writers).join(self.flow.writers.clone());
        for (name, root) in &self.flow.roots {
            if !self.ever.roots.contains_key(name) || self.ever.roots.get(name) != Some(root) {
                let known = Flow { roots: BTreeMap::from([(name.clone(), root.clone())]), ..Flow::default() };
                self.ever = std::mem::take(&mut self.ever).join(known);
            }
        }
    }

    /// The state that `on_fault` and `finally` begin with: everything may be set, nothing must be.
    pub fn everything_set(&self) -> Flow {
        self.ever.clone().maybe_all()
    }

    /// Notes variables that a step which is wrong might have set.
    pub fn may_be_set(&mut self, names: impl IntoIterator<Item = String>) {
        self.unsettled.extend(names.into_iter().map(Text::from));
    }

    /// Whether a variable may be there although no step is known to set it.
    pub(super) fn is_unsettled(&self, name: &str) -> bool {
        self.knows_little || self.unsettled.contains(name)
    }

    /// Puts the steps of a fragment here.
    pub fn include(&mut self, name: &Name, path: &str) -> Option<Vec<Op>> {
        let fragments = self.around.fragments;
        let Some(fragment) = fragments.get(name.name.as_str()) else {
            return self.unknown_name("fragment", name, fragments.keys());
        };
        if self.includes.iter().any(|including| **including == *name.name) {
            let way: Vec<&str> = self.includes.iter().map(AsRef::as_ref).collect();
            let message = format!("`{}` includes itself: {} -> {}", name.name, way.join(" -> "), name.name);
            return self.refuse("policy.include_cycle", name.span, message, "take one of the includes out");
        }
        self.includes.push(name.name.as_str().into());
        self.included.push(name.name.as_str().into());
        let ops = self.steps(&fragment.steps, path);
        self.includes.pop();
        Some(ops)
    }

    /// Says that the step at hand reads a body whole.
    pub fn need_body(&mut self, side: Side) {
        match side {
            Side::Request => {
                self.needs.request = true;
                self.replayed.extend(&self.flow.undone);
                let path = self.step_path();
                // Routes of the pipeline come before `on_fault` and `finally` too.
                if self.flow.routed != Happened::Never || self.part != Part::Main {
                    self.late_request.get_or_insert(path.clone());
                }
                self.plan.request.get_or_insert(path);
            }
            Side::Response => {
                self.needs.response = true;
                let path = self.step_path();
                if self.part == Part::Main {
                    self.plan.response.get_or_insert(path);
                }
            }
        }
    }

    /// Notes what the step at hand reads, and what that needs.
    pub fn note_reads<'r>(&mut self, reads: impl IntoIterator<Item = &'r Read>) {
        for read in reads {
            if self.flow.carried.mark_of(read).is_credential() && !self.put_back.contains(read) {
                self.put_back.push(read.clone());
            }
            if let Some(step) = self.steps.get_mut(usize::from(self.current))
                && !step.reads.contains(read)
            {
                step.reads.push(read.clone());
            }
            match read {
                Read::Json(side) | Read::Body(side) | Read::BodyText(side) => self.need_body(*side),
                Read::Form(_) | Read::FormMap => self.need_body(Side::Request),
                _ => {}
            }
        }
    }

    fn step_path(&self) -> Text {
        self.steps.get(usize::from(self.current)).map_or_else(|| "?".into(), |step| step.path.clone())
    }

    /// The slot of a variable: the same for the same name, on whatever way it is set.
    pub(super) fn slot(&mut self, root: &str, member: &str) -> Slot {
        self.slot_of(self.scoped(root), member)
    }

    /// The slot of a variable under the whole name that the service keeps it by.
    pub(super) fn slot_of(&mut self, root: Text, member: &str) -> Slot {
        self.note_written(&root);
        let known = self.slots.len();
        let next = Slot(u16::try_from(known).unwrap_or(u16::MAX));
        let slot = *self.slots.entry((root, member.into())).or_insert(next);
        if known == VARIABLES_MAX && self.slots.len() > known {
            let message =
                format!("a service has at most {VARIABLES_MAX} variables, those inside of assertions counted");
            self.refuse::<()>("policy.too_many_variables", self.step_span, message, "split the service");
        }
        slot
    }

    /// Remembers which variables hold credentials: traces show a hash of them.
    pub(super) fn mark(&mut self, slot: Slot, facts: Facts) {
        if facts.mark.is_credential() {
            self.marked.insert(slot);
        }
    }

    /// Notes what the text of a fault is made of: `fault.text` is as marked.
    pub fn note_fault_text(&mut self, mark: Mark) {
        self.fault_text = self.fault_text.joined(mark);
    }

    /// The mark of `fault.text`.
    pub fn fault_text_mark(&self) -> Mark {
        self.fault_text
    }

    /// Declares one output of the step at hand; `output.name` is `root.member`, and `renamed` the step's `as:`.
    pub fn out(&mut self, output: &Output, renamed: Option<&str>) -> Slot {
        self.out_with(output.name, renamed, output.facts())
    }

    /// Declares an output whose facts are known better than its documentation says.
    pub fn out_with(&mut self, name: &str, renamed: Option<&str>, facts: Facts) -> Slot {
        let (root, member) = name.split_once('.').unwrap_or((name, ""));
        let root = renamed.unwrap_or(root);
        self.flow.writers.write(root, self.current);
        let slot = self.slot(root, member);
        self.mark(slot, facts);
        self.made_here(slot);
        self.flow.forget_proofs(slot);
        let set = self.flow.roots.entry(root.into()).or_insert_with(|| Root::Members(BTreeMap::new()));
        match set {
            Root::Members(members) => {
                members.insert(member.into(), (slot, facts));
            }
            other => *other = Root::Members(BTreeMap::from([(member.into(), (slot, facts))])),
        }
        slot
    }

    /// Declares a variable that stands under its own name (`set`).
    pub fn variable(&mut self, name: &str, facts: Facts) -> Slot {
        let slot = self.slot(name, "");
        self.mark(slot, facts);
        self.flow.forget_proofs(slot);
        self.flow.writers.forget(name);
        self.flow.roots.insert(name.into(), Root::Value(slot, facts));
        slot
    }

    /// Declares who the caller is, under `auth` or the step's `as:`. Identity never changes silently: a
    /// second one on the same way needs a name of its own.
    pub fn identify(&mut self, step: &crate::compile::Step<'_>, has_client: bool) -> Option<Slot> {
        let name = step.renamed.as_ref().map_or("auth", |name| name.name.as_str());
        if let Some(Root::Identity(known)) = self.flow.roots.get(name)
            && !known.absent
        {
            let message = format!("`{name}` is already set by a step before this one");
            let help = "give the second identity a name: `as: second` beside the assertion, read as `second.subject`";
            return self.refuse("policy.identity_twice", step.span, message, help);
        }
        let root = self.scoped(name);
        self.note_written(&root);
        let next = Slot(u16::try_from(self.identities.len()).unwrap_or(u16::MAX));
        let slot = *self.identities.entry(root).or_insert(next);
        let root = IdentityRoot { slot, absent: false, has_client, credential: None, key_of: None };
        self.flow.roots.insert(name.into(), Root::Identity(root));
        Some(slot)
    }

    /// The slot of an identity that an earlier step established.
    pub fn identity(&mut self, name: &str, span: Span) -> Option<Slot> {
        match self.flow.roots.get(name) {
            Some(Root::Identity(identity)) if !identity.absent => Some(identity.slot),
            Some(Root::Identity(_)) => {
                let message = format!("only some of the ways that lead here set `{name}`");
                let help = "put the authentication where every request passes it, or this step beside it";
                self.refuse("policy.no_identity", span, message, help)
            }
            None if self.is_unsettled(name) => None,
            _ => {
                let message = format!("no step before this one says who the caller is (`{name}`)");
                let help = "put an `authenticate_*` step before it";
                self.refuse("policy.no_identity", span, message, help)
            }
        }
    }

    /// Sessions whose tokens go with a route, or with the next call beside the request.
    pub fn sealed(&self, of_request: bool) -> &[Arc<Session>] {
        if of_request { &self.flow.sealed.routes } else { &self.flow.sealed.calls }
    }

    /// Looks a resource up; what is missing is reported with the names there are.
    pub fn resource<R: ?Sized>(
        &mut self,
        what: &'static str,
        name: &Name,
        among: impl Fn(&Resources) -> &Named<Option<Arc<R>>>,
    ) -> Option<Arc<R>> {
        let all = among(self.around.resources);
        match all.get(name.name.as_str()) {
            Some(found) => found.clone(), // `None`: it is broken, which its own document reports
            None => self.unknown_name(what, name, all.keys()),
        }
    }

    /// Reports a name that nothing has.
    pub fn unknown_name<'n, T>(
        &mut self,
        what: &str,
        name: &Name,
        known: impl Iterator<Item = &'n Text> + Clone,
    ) -> Option<T> {
        let message = format!("there is no {what} called `{}`", name.name);
        let diagnostic = Diagnostic::error("policy.unknown_name", name.span, message).with_label("not declared");
        let help = match suggest(&name.name, known.clone().map(AsRef::as_ref)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let names: Vec<&str> = known.map(AsRef::as_ref).collect();
                match names.is_empty() {
                    true => format!("declare it in any file under the policies folder: `{what}: {}`", name.name),
                    false => format!("declared are: {}", names.join(", ")),
                }
            }
        };
        self.report(diagnostic.with_help(help));
        None
    }
}
