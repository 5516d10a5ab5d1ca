//! Compiling one service: its match rule, its pipeline with the defaults merged in, and what follows from it.

use std::sync::Arc;

use http::Method;

use crate::compile::Compile;
use crate::compile::context::{Part, Surroundings};
use crate::compile::flow::Happened;
use crate::engine::exchange::Withheld;
use crate::engine::program::{Op, Program};
use crate::engine::select::{HostRule, Rule, Segment, parse_path};
use crate::engine::snapshot::Service;
use crate::engine::value::Text;
use crate::policy::build::Environment;
use crate::policy::document::{DefaultsDoc, Documents, ServiceDoc};
use crate::secret::CREDENTIAL_FIELDS;
use crate::source::{Diagnostic, Diagnostics, Literal, Node, Span, suggest};

/// Authentications that send no credential which somebody who has read it could send again: what they take proves a
/// key that stays where it is.
const PROVES_BY_KEY: [&str; 3] = ["authenticate_kerberos", "authenticate_mac", "authenticate_mtls"];

/// What is compiled of a service document.
pub struct BuiltService {
    pub rule: Option<Rule>,
    pub service: Service,
    /// Fragments that it includes.
    pub included: Vec<Text>,
}

/// Compiles a service. Everything wrong with it is reported.
pub fn build(
    doc: &ServiceDoc,
    documents: &Documents,
    around: Surroundings<'_>,
    environment: &Environment,
    diags: &mut Diagnostics,
) -> BuiltService {
    let mut said = Diagnostics::new();
    let built = pass(doc, documents, around, environment, &[], &mut said);
    let is_usual = |place: &Withheld| match place {
        Withheld::Header(name) => CREDENTIAL_FIELDS.contains(&name.as_str()),
        Withheld::Cookie(_) => true,
        Withheld::Query(_) => false,
    };
    if built.service.credentials.iter().all(is_usual) {
        diags.append(said);
        return built;
    }
    // What callers present is a token in steps before the one that takes it too: those are known now.
    pass(doc, documents, around, environment, &built.service.credentials, diags)
}

fn pass(
    doc: &ServiceDoc,
    documents: &Documents,
    around: Surroundings<'_>,
    environment: &Environment,
    presented: &[Withheld],
    diags: &mut Diagnostics,
) -> BuiltService {
    let rule = rule(doc, around, &environment.listeners, diags);
    let params: Vec<Text> =
        rule.iter().flat_map(|rule| &rule.path).filter_map(|segment| segment.name().cloned()).collect();
    let defaults = defaults_of(doc, documents, diags);
    let name: Text = doc.service.name.as_str().into();
    let mut cx = Compile::new(around, diags, name.clone(), params);
    cx.presented = presented.to_vec();
    cx.scrubs.extend(environment.scrub.clone());
    cx.rest_param = rule.iter().flat_map(|rule| &rule.path).find_map(|segment| match segment {
        Segment::Rest(name) => Some(name.clone()),
        _ => None,
    });
    let mut main = Vec::new();
    for defaults in &defaults {
        if let Some(before) = &defaults.before {
            cx.defaults = Some(defaults.defaults.name.as_str().into());
            main.extend(cx.steps(before, &format!("{}.before.", defaults.defaults.name)));
        }
    }
    cx.defaults = None;
    main.extend(cx.steps(&doc.policy, ""));
    check_answer(&mut cx, doc);
    check_clear_text(&mut cx, doc, environment);
    check_certificates(&mut cx, doc, environment);
    let on_fault = std::iter::once((None, doc.on_fault.as_ref()))
        .chain(defaults.iter().map(|defaults| (Some(defaults.defaults.name.as_str()), defaults.on_fault.as_ref())));
    let on_fault = tail(&mut cx, Part::OnFault, "on_fault", on_fault);
    let finally = std::iter::once((None, doc.finally.as_ref()))
        .chain(defaults.iter().map(|defaults| (Some(defaults.defaults.name.as_str()), defaults.finally.as_ref())));
    let finally = tail(&mut cx, Part::Finally, "finally", finally);
    cx.hold_for_later(&mut main); // the tails read bodies too
    check_streams(&mut cx, &main);
    let (slots, identities) = cx.room();
    let service = Service {
        name: Some(name),
        file: around.sources.name(doc.service.span.file).into(),
        rule: rule.as_ref().map(|rule| rule.to_string().into()),
        main: Program { ops: main },
        on_fault,
        finally,
        slots,
        identities,
        steps: std::mem::take(&mut cx.steps),
        owned_headers: std::mem::take(&mut cx.owned_headers),
        owned_places: std::mem::take(&mut cx.owned_places),
        plan: cx.plan.clone(),
        credentials: std::mem::take(&mut cx.credentials),
        keeps_answer_headers: cx.answer_headers_read,
        metrics: None,
        names: cx.names(),
        scrubs: std::mem::take(&mut cx.scrubs),
    };
    BuiltService { rule, service, included: cx.included }
}

/// What happens to requests that no service wants: the tails of the defaults for all services.
pub fn build_unmatched(
    documents: &Documents,
    around: Surroundings<'_>,
    environment: &Environment,
    diags: &mut Diagnostics,
) -> (Service, Vec<Text>) {
    let all = documents.defaults.values().map(AsRef::as_ref).filter(|defaults| applies(defaults, None));
    let all: Vec<&DefaultsDoc> = all.collect();
    let mut cx = Compile::new(around, diags, "".into(), Vec::new());
    cx.scrubs.extend(environment.scrub.clone());
    let named = |of: fn(&DefaultsDoc) -> Option<&Node>| {
        all.iter().map(move |defaults| (Some(defaults.defaults.name.as_str()), of(defaults))).collect::<Vec<_>>()
    };
    let on_fault = tail(&mut cx, Part::OnFault, "on_fault", named(|defaults| defaults.on_fault.as_ref()).into_iter());
    let finally = tail(&mut cx, Part::Finally, "finally", named(|defaults| defaults.finally.as_ref()).into_iter());
    let (slots, identities) = cx.room();
    let keeps_answer_headers = cx.answer_headers_read;
    let service = Service {
        on_fault,
        finally,
        slots,
        identities,
        steps: cx.steps,
        scrubs: cx.scrubs,
        keeps_answer_headers,
        ..Service::default()
    };
    (service, cx.included)
}

/// Compiles by themselves the defaults of which nobody can tell which services they are for. Gives the names of the
/// fragments that they include.
pub fn check_defaults(documents: &Documents, around: Surroundings<'_>, diags: &mut Diagnostics) -> Vec<Text> {
    let mut included = Vec::new();
    for defaults in documents.defaults.values().filter(|defaults| defaults.lacks_services) {
        let mut cx = Compile::new(around, diags, "".into(), Vec::new());
        cx.knows_little = true;
        let name = Some(defaults.defaults.name.as_str());
        let lists = [
            (Part::Main, "before", &defaults.before),
            (Part::OnFault, "on_fault", &defaults.on_fault),
            (Part::Finally, "finally", &defaults.finally),
        ];
        for (part, word, list) in lists {
            tail(&mut cx, part, word, std::iter::once((name, list.as_ref())));
        }
        included.append(&mut cx.included);
    }
    included
}

fn tail<'d>(
    cx: &mut Compile<'_>,
    part: Part,
    word: &str,
    lists: impl Iterator<Item = (Option<&'d str>, Option<&'d Node>)>,
) -> Program {
    cx.part = part;
    cx.flow = cx.everything_set();
    let mut ops = Vec::new();
    for (defaults, list) in lists {
        let Some(list) = list else { continue };
        cx.defaults = defaults.map(Text::from);
        let path = match defaults {
            Some(name) => format!("{name}.{word}."),
            None => format!("{word}."),
        };
        ops.extend(cx.steps(list, &path));
        cx.flow.ended = false; // the next list is of another document: it is just not reached
    }
    Program { ops }
}

fn check_answer(cx: &mut Compile<'_>, doc: &ServiceDoc) {
    if cx.flow.ended || cx.flow.routed == Happened::Always || cx.incomplete {
        return;
    }
    let message = match cx.flow.routed {
        Happened::OnSomeWays => "some requests come to the end of this pipeline without an answer",
        _ => "this pipeline ends without an answer",
    };
    let help = "end it with `route`, `respond` or `redirect` on every way";
    cx.refuse::<()>("policy.no_answer", doc.service.span, message, help);
}

/// Refuses credentials that whoever listens on the network could read and use (RFC 7617 §4, RFC 6750 §5.3).
fn check_clear_text(cx: &mut Compile<'_>, doc: &ServiceDoc, environment: &Environment) {
    let stands_on =
        |listener: &Text| doc.listeners.as_ref().is_none_or(|names| names.iter().any(|name| *name.name == **listener));
    let Some(listener) = environment.clear_listeners.iter().find(|listener| stands_on(listener)) else { return };
    let takes_bearer = |assertion: &str| assertion.starts_with("authenticate_") && !PROVES_BY_KEY.contains(&assertion);
    let Some(step) = cx.steps.iter().find(|step| takes_bearer(&step.assertion)) else { return };
    let message = format!(
        "`{}` at {} takes credentials in clear text: listener `{listener}` can be reached over the network without TLS",
        step.assertion, step.place
    );
    let help = "give the listener `tls:`, or let it listen on loopback; for `behind_tls_proxy` and `allow_plaintext_credentials` \
                see gateway.yaml";
    cx.refuse::<()>("policy.plaintext_credentials", doc.service.span, &message, help);
}

/// Refuses steps that hold a body where a route says that none is.
fn check_streams(cx: &mut Compile<'_>, main: &[Op]) {
    let Some(route) = cx.streams.first().copied() else { return };
    let holds = |path: &Text| cx.steps.iter().find(|step| *step.path == **path);
    let replays = || main.iter().find_map(|op| if let Op::Hold(id) = op { Some(*id) } else { None });
    let to_replay = cx.holds_to_replay.or_else(replays).and_then(|id| cx.steps.get(usize::from(id)));
    let (request, response) = (cx.plan.request.as_ref().and_then(holds), cx.plan.response.as_ref().and_then(holds));
    let held = [("request", request.or(to_replay)), ("response", response)];
    let held: Vec<_> =
        held.into_iter().filter_map(|(side, step)| Some((side, step?.name.clone(), step?.span))).collect();
    for (side, step, span) in held {
        let message = format!("`{step}` holds the {side}'s body, and a route of this service says `stream: always`");
        let diagnostic = Diagnostic::error("policy.not_streamed", span, message).with_note(route, "it says so here");
        cx.report(diagnostic.with_help("remove that step, or `stream: always`"));
    }
}

/// Refuses a service that nobody could ever use: it wants certificates, and its listeners ask for none.
fn check_certificates(cx: &mut Compile<'_>, doc: &ServiceDoc, environment: &Environment) {
    let stands_on =
        |listener: &Text| doc.listeners.as_ref().is_none_or(|names| names.iter().any(|name| *name.name == **listener));
    let mut own = environment.listeners.iter().filter(|listener| stands_on(listener)).peekable();
    if own.peek().is_none() || own.any(|listener| !environment.unasking_listeners.contains(listener)) {
        return;
    }
    let Some(step) = cx.wants_certificate.first().and_then(|step| cx.steps.get(usize::from(*step))) else { return };
    let message = format!("`{}` at {} never sees a certificate: no listener asks for one", step.assertion, step.place);
    let help = "give the listener `tls: { client_certificates: optional, client_ca: FILE, ... }` in gateway.yaml";
    cx.refuse::<()>("policy.no_certificates", doc.service.span, &message, help);
}

/// Defaults that hold for a service, in order of name.
fn defaults_of<'d>(doc: &ServiceDoc, documents: &'d Documents, diags: &mut Diagnostics) -> Vec<&'d DefaultsDoc> {
    let without: Vec<_> = doc.without.iter().flat_map(|names| names.iter()).collect();
    for name in &without {
        if !documents.defaults.contains_key(name.name.as_str()) {
            let message = format!("there are no defaults called `{}`", name.name);
            let near = suggest(&name.name, documents.defaults.keys().map(AsRef::as_ref));
            let help = near.map_or("remove it".to_owned(), |near| format!("did you mean `{near}`?"));
            diags.push(Diagnostic::error("policy.unknown_name", name.span, message).with_help(help));
        }
    }
    applied(doc, documents).collect()
}

/// Defaults that hold for a service; a name in `without` that nothing has is not reported here.
pub fn applied<'d>(doc: &ServiceDoc, documents: &'d Documents) -> impl Iterator<Item = &'d DefaultsDoc> {
    let opted_out = |name: &str| doc.without.iter().flat_map(|names| names.iter()).any(|without| without.name == name);
    documents
        .defaults
        .values()
        .map(AsRef::as_ref)
        .filter(move |defaults| applies(defaults, Some(&doc.service.name)) && !opted_out(&defaults.defaults.name))
}

/// Whether defaults hold for a service; `None` asks whether they hold for all.
fn applies(defaults: &DefaultsDoc, service: Option<&str>) -> bool {
    let Some(patterns) = &defaults.services else { return !defaults.lacks_services };
    patterns.iter().any(|pattern| match (service, pattern.split_once('*')) {
        (None, _) => pattern == "*",
        (Some(service), None) => pattern == service,
        (Some(service), Some((start, end))) => {
            service.len() >= start.len() + end.len() && service.starts_with(start) && service.ends_with(end)
        }
    })
}

/// Which requests belong to a service. `None` where that is wrong, which was reported.
pub fn rule(doc: &ServiceDoc, around: Surroundings<'_>, listeners: &[Text], diags: &mut Diagnostics) -> Option<Rule> {
    let mut cx = Compile::new(around, diags, doc.service.name.as_str().into(), Vec::new());
    let host = match &doc.rule.host {
        None => Some(HostRule::Any),
        Some(literal) => {
            let span = literal.0.span();
            cx.literal(literal).and_then(|host| host_rule(&mut cx, &host, span))
        }
    };
    let path = cx.literal(&doc.rule.path).and_then(|path| match parse_path(&path) {
        Ok(segments) => check_canonical(&mut cx, &path, doc.rule.path.0.span()).then_some(segments),
        Err(why) => {
            let help = "write `/orders/{id}`, or `/files/{*rest}` for all below";
            cx.refuse("policy.bad_path", doc.rule.path.0.span(), why, help)
        }
    });
    let methods = methods(&mut cx, doc);
    let mut stands_on = Vec::new();
    for name in doc.listeners.iter().flat_map(|names| names.iter()) {
        match listeners.iter().find(|listener| ***listener == *name.name) {
            Some(listener) => stands_on.push(listener.clone()),
            None => cx.unknown_name::<()>("listener", name, listeners.iter()).unwrap_or_default(),
        }
    }
    Some(Rule { host: host?, path: path?, methods: methods?, listeners: stands_on })
}

/// Literal segments are compared with canonical paths: one that is written otherwise would never match.
fn check_canonical(cx: &mut Compile<'_>, pattern: &str, span: Span) -> bool {
    let plain: String = pattern.chars().filter(|character| !"{}*".contains(*character)).collect();
    let canonical = crate::path::CanonicalPath::parse(&plain);
    match canonical {
        Ok(canonical) if canonical.as_str() == plain => true,
        Ok(canonical) => {
            let message = "requests are matched by their canonical path, which never looks like this";
            let help = format!("its canonical form is `{}`", canonical.as_str());
            cx.refuse::<()>("policy.bad_path", span, message, &help);
            false
        }
        Err(why) => {
            let message = format!("no request can have this path: {why}");
            cx.refuse::<()>("policy.bad_path", span, message, "write it as clients send it, such as `/orders/{id}`");
            false
        }
    }
}

fn host_rule(cx: &mut Compile<'_>, host: &str, span: Span) -> Option<HostRule> {
    // The dot at the end of a rooted name is cut from requests too.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let legal = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte))
    };
    if let Some(suffix) = host.strip_prefix('*') {
        if suffix.starts_with('.') && legal(suffix) && suffix.len() > 1 {
            return Some(HostRule::Suffix(suffix.into()));
        }
    } else if legal(&host) && (host.starts_with('[') || !host.contains(':')) {
        return Some(HostRule::Exact(host.into()));
    }
    let message = format!("`{host}` is no host");
    cx.refuse("policy.bad_host", span, message, "write `api.example.com` or `*.example.com`, without scheme and port")
}

fn methods(cx: &mut Compile<'_>, doc: &ServiceDoc) -> Option<Vec<Method>> {
    let mut method = |literal: &Literal| {
        let word = cx.literal(literal)?;
        match Method::from_bytes(word.as_bytes()) {
            Ok(method) if word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Some(method),
            _ => {
                let message = format!("`{word}` is no method");
                let help = "methods are written in capitals: `methods: [GET, POST]`";
                cx.refuse("policy.bad_method", literal.0.span(), message, help)
            }
        }
    };
    let methods: Vec<_> = doc.rule.methods.iter().flat_map(|methods| methods.iter()).map(&mut method).collect();
    methods.into_iter().collect()
}

impl BuiltService {
    /// Gives it its numbers.
    pub fn finish(mut self, metrics: Option<&crate::audit::metrics::Metrics>) -> (Option<Rule>, Arc<Service>) {
        if let (Some(metrics), Some(name)) = (metrics, &self.service.name) {
            self.service.metrics = Some(metrics.service(name));
        }
        (self.rule, Arc::new(self.service))
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, loads, service};
    use crate::engine::program::Op;
    use crate::engine::read::Side;

    /// For each route of the pipeline, whether it holds the request's body.
    fn held(steps: &str) -> Vec<bool> {
        let snapshot = loads(&service(steps));
        let ops = &snapshot.services[0].main.ops;
        let before = |at: usize| ops[..at].iter().any(|op| matches!(op, Op::Buffer(_, Side::Request)));
        ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::Route(..))).map(|(at, _)| before(at)).collect()
    }

    const ROUTE: &str = "  - route: http://127.0.0.1:9000\n";

    #[test]
    fn a_route_alone_lets_the_body_stream() {
        assert_eq!(held(ROUTE), [false]);
        let both = "  - if: request.method == 'PUT'\n    then: [{ route: http://a }]\n    else: [{ route: http://b }]";
        assert_eq!(held(both), [false, false]);
        assert_eq!(held(&format!("{ROUTE}on_fault:\n  - log: \"${{fault.code}}\"\nfinally:\n  - log: done")), [false]);
    }

    #[test]
    fn a_second_route_finds_the_body_held() {
        let again = "  - route: http://127.0.0.1:9001\n    when: response.status == 503";
        assert_eq!(held(&format!("{ROUTE}{again}")), [true, true]);
        assert_eq!(held(&format!("{ROUTE}on_fault:\n{ROUTE}")), [true]);
    }

    #[test]
    fn what_comes_last_reads_a_body_that_routes_have_held() {
        for tail in [
            "on_fault:\n  - log: \"${request.text}\"",
            "finally:\n  - log: \"${request.json.a ?? 'none'}\"",
            "finally:\n  - audit: { fields: { size: \"${len(request.body)}\" } }",
        ] {
            assert_eq!(held(&format!("{ROUTE}{tail}")), [true], "{tail}");
        }
    }

    fn sent(steps: &str) -> (u16, Vec<String>) {
        let outcome = Trial::of(steps).post_streamed("/", "abc");
        (outcome.status, outcome.sent.into_iter().map(|sent| sent.body).collect())
    }

    #[test]
    fn a_streamed_body_is_sent_again_by_a_second_route() {
        let again = "  - route: http://127.0.0.1:9001\n    when: response.status == 200";
        assert_eq!(sent(&format!("{ROUTE}{again}")), (200, vec!["abc".to_owned(), "abc".to_owned()]));
        let failed = "  - raise: { status: 500, code: trial.no }\non_fault:\n";
        assert_eq!(sent(&format!("{ROUTE}{failed}{ROUTE}")), (200, vec!["abc".to_owned(), "abc".to_owned()]));
    }

    #[test]
    fn finally_records_a_streamed_body_that_was_sent() {
        let trial = Trial::of(&format!("{ROUTE}finally:\n  - audit: {{ fields: {{ sent: \"${{request.text}}\" }} }}"));
        let mut line = String::new();
        trial.post_streamed("/", "abc").record.write_line(&mut line);
        assert!(line.contains("{\"sent\":\"abc\"}"), "{line}");
    }

    #[test]
    fn the_answer_is_read_before_and_after_it_left() {
        let trial = Trial::of(
            "  - raise: { status: 403, code: trial.no }\n\
             on_fault:\n  - set_headers: { x-status: \"${answer.status ?? 0}\", x-size: \"${answer.size ?? 0}\" }\n\
             finally:\n  - audit: { fields: { status: \"${answer.status}\", type: \"${answer.headers.content_type}\", \
             size: \"${answer.size}\" } }",
        );
        let outcome = trial.get("/");
        let size = outcome.body.len().to_string();
        assert_eq!((outcome.header("x-status"), outcome.header("x-size")), (Some("403"), Some(&*size)));
        let mut line = String::new();
        outcome.record.write_line(&mut line);
        let fields = format!("{{\"status\":403,\"type\":\"application/problem+json\",\"size\":{size}}}");
        assert!(line.contains(&fields), "{line}");
    }

    #[test]
    fn fields_of_the_answer_are_kept_only_where_they_are_read() {
        let keeps = |steps: &str| loads(&service(steps)).services[0].keeps_answer_headers;
        assert!(keeps("  - respond: 204\nfinally:\n  - log: \"${answer.headers.date ?? ''}\""));
        assert!(!keeps("  - respond: 204\nfinally:\n  - log: \"${answer.status ?? 0} ${request.headers.date ?? ''}\""));
    }
}
