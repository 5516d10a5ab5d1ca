//! The language as a whole: a small world of variables, and tables of sources with what they must give.

mod errors;
mod interpreted;
mod oracle;
mod robust;
mod straight;
mod templates;
mod values;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::engine::read::{Builtin, IdentityMember, Read, Reader, Side, Slot};
use crate::engine::value::{Element, Facts, Mark, Origin, Type, Val, Value};
use crate::expr::{Compiled, Constant, Error, Resolved, Scope, Segment, Unresolved, compile, compile_condition};
use crate::fault::Fault;

/// Variables of the tests; what is not written here is absent.
struct World {
    json: Json,
    upstream: Json,
    groups: Vec<Value>,
    proven: bool,
}

const IDENTITY: Slot = Slot(0);
const NOTE: Slot = Slot(1);
const TIME: Slot = Slot(2);
const FLAG: Slot = Slot(3);
const ANY: Slot = Slot(4);
const RATIO: Slot = Slot(5);
const GONE: Slot = Slot(6);

fn world() -> World {
    World {
        json: json!({
            "id": 7, "name": "ann", "none": null, "ratio": 1.5, "big": 9_007_199_254_740_993i64, "ok": true,
            "list": [1, "x", { "k": "v" }], "user": { "name": "bob", "tags": ["a", "b"] }, "max": i64::MAX
        }),
        upstream: json!({ "status": "up", "n": 3 }),
        groups: vec![Value::text("staff"), Value::text("managers")],
        proven: false,
    }
}

fn known(read: Read, facts: Facts, used: usize) -> Result<Resolved, Unresolved> {
    Ok(Resolved::Read { read, facts, used })
}

fn unknown(code: &'static str, name: &str, at_segment: usize) -> Unresolved {
    Unresolved { code, message: format!("There is no `{name}`."), label: "unknown".into(), help: None, at_segment }
}

impl Scope for World {
    fn resolve(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let names: Vec<&str> = path.iter().map(|segment| segment.name).collect();
        let text = Facts::client(Type::Text);
        let map = Facts::client(Type::Map(Element::Text));
        match names.as_slice() {
            ["request", "method", ..] => known(Read::Builtin(Builtin::RequestMethod), text, 2),
            ["request", "host", ..] => known(Read::Builtin(Builtin::RequestHost), text, 2),
            ["request", "size", ..] => known(Read::Builtin(Builtin::RequestSize), Facts::client(Type::Int), 2),
            ["request", "client", "ip", ..] => known(Read::Builtin(Builtin::ClientIp), text, 3),
            ["request", "body", ..] => known(Read::Body(Side::Request), Facts::client(Type::Bytes), 2),
            ["request", "json", ..] => known(Read::Json(Side::Request), Facts::client(Type::Json), 2),
            ["response", "json", ..] => {
                known(Read::Json(Side::Response), Facts { origin: Origin::Upstream, ..Facts::client(Type::Json) }, 2)
            }
            ["request", "headers"] => known(Read::Headers(Side::Request), map, 2),
            ["request", "headers", name, ..] => {
                let header = name.replace('_', "-").parse().map_err(|_| unknown("unknown_header", name, 2))?;
                let mark = if *name == "authorization" { Mark::Token } else { Mark::None };
                known(Read::Header(Side::Request, header), text.maybe().marked(mark), 3)
            }
            ["request", "query"] => known(Read::QueryMap, map, 2),
            ["request", "query", name, ..] => known(Read::Query((*name).into()), text.maybe(), 3),
            ["path", "id", ..] => known(Read::Path(0), text, 2),
            ["auth", "groups", ..] => {
                let facts = Facts::policy(Type::List(Element::Text));
                known(Read::Identity(IDENTITY, IdentityMember::Groups), facts, 2)
            }
            ["auth", "client", ..] => {
                known(Read::Identity(IDENTITY, IdentityMember::Client), Facts::policy(Type::Text).maybe(), 2)
            }
            ["note", ..] => known(Read::Slot(NOTE), Facts::policy(Type::Text), 1),
            ["time", ..] => known(Read::Slot(TIME), Facts::policy(Type::Time), 1),
            ["flag", ..] => known(Read::Slot(FLAG), Facts::policy(Type::Bool), 1),
            ["any", ..] => known(Read::Slot(ANY), Facts::client(Type::Any), 1),
            ["ratio", ..] => known(Read::Slot(RATIO), Facts::policy(Type::Float), 1),
            ["gone", ..] => known(Read::Slot(GONE), Facts::policy(Type::Text).maybe(), 1),
            ["env", "STAGE", ..] => {
                Ok(Resolved::Constant { value: Value::text("prod"), facts: Facts::policy(Type::Text), used: 2 })
            }
            ["request", name, ..] => Err(unknown("unknown_variable", name, 1)),
            _ => Err(unknown("unknown_variable", names[0], 0)),
        }
    }

    fn constant(&mut self, function: &str, name: &str) -> Result<Constant, Unresolved> {
        match (function, name) {
            ("secret", "pepper") => {
                Ok(Constant { value: Value::text("hot"), facts: Facts::policy(Type::Text).marked(Mark::Secret) })
            }
            ("list", "tiers") => {
                let list = [Value::text("gold"), Value::text("silver")];
                Ok(Constant { value: Value::List(list.into()), facts: Facts::policy(Type::List(Element::Text)) })
            }
            ("list", "networks") => {
                let list = [Value::text("10.0.0.0/8")];
                Ok(Constant { value: Value::List(list.into()), facts: Facts::policy(Type::List(Element::Text)) })
            }
            _ => Err(unknown("unknown_name", name, 0)),
        }
    }

    fn proven(&self, read: &Read, _: &[crate::expr::Member]) -> bool {
        self.proven && *read == Read::Query("page".into())
    }
}

impl Reader for World {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        let text = |text: &'x str| Val::Text(text.into());
        Ok(match read {
            Read::Builtin(Builtin::RequestMethod) => text("POST"),
            Read::Builtin(Builtin::RequestHost) => text("api.example.com"),
            Read::Builtin(Builtin::RequestSize) => Val::Int(120),
            Read::Builtin(Builtin::ClientIp) => text("::ffff:10.1.2.3"),
            Read::Body(Side::Request) => Val::Bytes((&b"\xff\x00"[..]).into()),
            Read::Json(Side::Request) => Val::json(&self.json),
            Read::Json(Side::Response) => Val::json(&self.upstream),
            Read::Header(_, name) if name == "x-a" => text("one"),
            Read::Header(_, name) if name == "authorization" => text("Bearer hot"),
            Read::Headers(_) => pairs(),
            Read::Query(name) if **name == *"q" => text("a b&c"),
            Read::Query(name) if **name == *"dots" => text(".."),
            Read::Query(name) if **name == *"n" => text("12"),
            Read::QueryMap => pairs(),
            Read::Path(0) => text("7"),
            Read::Identity(_, IdentityMember::Groups) => Val::List((&self.groups[..]).into()),
            Read::Slot(slot) if *slot == NOTE => text("über/größe"),
            Read::Slot(slot) if *slot == TIME => Val::Time(Timestamp::from_second(1_700_000_000).unwrap()),
            Read::Slot(slot) if *slot == FLAG => Val::Bool(true),
            Read::Slot(slot) if *slot == ANY => Val::Int(5),
            Read::Slot(slot) if *slot == RATIO => Val::Float(2.5),
            _ => Val::Absent,
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_750_000_000).unwrap()
    }

    fn random(&self, into: &mut [u8]) {
        into.fill(0xAB);
    }
}

fn pairs() -> Val<'static> {
    Val::Json(std::borrow::Cow::Owned(json!({ "x-a": "one", "q": "a b&c" })))
}

fn compiled(source: &str) -> Compiled {
    compile(source, &mut world()).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

fn value(source: &str) -> Value {
    let world = world();
    compiled(source).eval(&world).unwrap_or_else(|fault| panic!("{source}: {fault:?}")).into_value()
}

fn fault(source: &str) -> Box<Fault> {
    let world = world();
    let compiled = compiled(source);
    match compiled.eval(&world) {
        Ok(val) => panic!("{source}: {val:?}"),
        Err(fault) => fault,
    }
}

fn errors(source: &str) -> Vec<Error> {
    match compile_condition(source, &mut world()) {
        Ok(compiled) => panic!("{source}: {compiled:?}"),
        Err(errors) => errors,
    }
}
