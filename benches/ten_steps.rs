//! Ten plain steps over one exchange: what the benchmark times and a test counts the allocations of.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use gatewright::audit::record::Record;
use gatewright::body::Body;
use gatewright::clock::Clock;
use gatewright::clock::wheel::Wheel;
use gatewright::engine::exchange::{Client, Exchange};
use gatewright::engine::program::Program;
use gatewright::engine::random::Random;
use gatewright::engine::serve;
use gatewright::engine::worker::{Records, Shared, Transport, Worker};
use gatewright::identity::hash_pool::HashPool;
use gatewright::identity::throttle::{Guessing, Throttle};
use gatewright::limits::Limits;
use gatewright::policy::build::{Environment, compile, parse_files};
use gatewright::policy::files::Files;
use gatewright::source::{Diagnostics, render};
use gatewright::upstream::Pool;

/// An exchange and the program of the ten steps.
pub struct Bench {
    pub exchange: Box<Exchange>,
    pub program: Program,
}

/// Compiles `steps` (YAML list items) and takes the answer at the end off again, which is not what is measured.
pub fn bench(steps: &str) -> Bench {
    bench_at("/orders/{id}", "/orders/7?page=2", steps)
}

/// The same for a match rule and a request of its own.
pub fn bench_at(rule: &str, target: &str, steps: &str) -> Bench {
    let yaml = format!("service: bench\nmatch: {{ path: \"{rule}\" }}\npolicy:\n{steps}  - respond: 200\n");
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("bench.yaml", &yaml), &mut diags);
    let snapshot = compile(&parsed, &Environment::default(), None, None, &mut diags);
    let mut snapshot = snapshot.unwrap_or_else(|| panic!("{}", render(&parsed.sources, &diags, false)));
    let service = Arc::get_mut(&mut snapshot.services[0]).unwrap();
    let mut program = std::mem::take(&mut service.main);
    program.ops.pop();
    let hashes = HashPool::new(1, 1).unwrap();
    let shared =
        Arc::new(Shared::new(Limits::default(), 1, Throttle::new(Guessing::default()), hashes, Arc::new(snapshot)));
    let (clock, wheel) = (Clock::system(), Wheel::new());
    let transport = Transport::Pool(Box::new(Pool::new(wheel.clone(), clock.clone())));
    let records = Records::Kept(Vec::<Record>::new().into());
    let worker = Rc::new(Worker::new(0, shared, clock, wheel, Random::System, transport, records));
    let request = http::Request::builder().uri(target).header("host", "api.example.com").header("x-a", "b");
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client =
        Client { listener: "main".into(), scheme: "http", ip, peer_ip: ip, port: 1, is_proxy: false, tls: None };
    Bench { exchange: serve::exchange(worker, client, parts, Body::Empty, None), program }
}

/// Ten steps of the kinds that most policies have, none of which waits.
pub const TEN_PLAIN_STEPS: &str = r#"
  - restrict_ip: [127.0.0.0/8]
  - compare: request.method == 'GET'
  - compare: path.id != 'forbidden'
  - when: request.method == 'POST'
    raise: { status: 403, code: bench.no_writes }
  - compare: request.headers.x_a == 'b'
  - limit_size: 1MiB
  - when: request.host == 'other.example.com'
    raise: { status: 403, code: bench.other_host }
  - compare: request.query.page != '3'
  - restrict_ip: { deny: [10.0.0.0/8] }
  - compare: request.path != '/forbidden'
"#;
