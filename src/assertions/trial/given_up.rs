//! Requests that are given up while a composite is open: by their deadline, and by a client that leaves.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::Trial;
use crate::audit::record::Record;
use crate::clock::wheel::TICK;
use crate::engine::serve::answer;
use crate::limits::Limits;

/// Composites around a step that waits for the one slot of all.
const OPEN: [&str; 4] = [
    "  - any:\n      - all: [{ set: { a: inside } }, { limit_concurrency: { max: 1, wait: 5s } }]\n      - set: { a: second }",
    "  - try:\n      - set: { a: inside }\n      - limit_concurrency: { max: 1, wait: 5s }\n    catch:\n      - set: { a: caught }",
    "  - all: [{ set: { a: inside } }, { limit_concurrency: { max: 1, wait: 5s } }]\n    shadow: true",
    "  - parallel:\n      - all: [{ set: { a: inside } }, { audit: { fields: { noted: yes } } }]\n      - limit_concurrency: { max: 1, wait: 5s }",
];

const AROUND: &str = "on_fault:\n  - audit: { fields: { failed: \"${a ?? 'absent'}\" } }\nfinally:\n  \
                      - audit: { fields: { left: \"${a ?? 'absent'}\" } }";

fn trial(open: &str) -> Trial {
    Trial::of(&format!("  - set: {{ a: before }}\n{open}\n  - respond: {{ text: \"${{a}}\" }}\n{AROUND}"))
}

fn field<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    record.fields.iter().find(|(known, _)| **known == *name)?.1.as_str()
}

#[test]
fn the_deadline_takes_back_what_an_open_composite_has_changed() {
    for open in OPEN {
        let trial = trial(open);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(holds) = pin!(answer(trial.begin("/"))).poll(&mut cx) else { panic!("{open}: not free") };
        let x = trial.begin("/");
        trial.pass(Limits::default().request_time - 2 * TICK);
        let mut waits = pin!(answer(x));
        assert!(waits.as_mut().poll(&mut cx).is_pending(), "{open}");
        trial.pass(4 * TICK);
        let Poll::Ready(late) = waits.poll(&mut cx) else { panic!("{open}: not given up") };
        assert_eq!(late.fault.as_ref().map(|fault| &*fault.code), Some("deadline.exceeded"), "{open}");
        drop(late);
        let record = trial.last_record().unwrap();
        assert_eq!((field(&record, "failed"), field(&record, "left")), (Some("before"), Some("before")), "{open}");
        drop(holds);
    }
}

#[test]
fn a_client_that_leaves_takes_back_what_an_open_composite_has_changed() {
    for open in OPEN {
        let trial = trial(open);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(holds) = pin!(answer(trial.begin("/"))).poll(&mut cx) else { panic!("{open}: not free") };
        {
            let mut waits = pin!(answer(trial.begin("/")));
            assert!(waits.as_mut().poll(&mut cx).is_pending(), "{open}");
        }
        let record = trial.last_record().unwrap();
        assert_eq!((record.outcome, record.status), ("gone", 499), "{open}");
        assert_eq!((field(&record, "failed"), field(&record, "left")), (None, Some("before")), "{open}");
        if open.contains("parallel") {
            assert_eq!(field(&record, "noted"), Some("yes"), "what a child has noted stays");
        }
        assert!(trial.last_record().is_none(), "{open}: one record each");
        // Nobody stands in the line any more.
        drop(holds);
        trial.last_record().unwrap();
        assert_eq!(trial.get("/").status, 200, "{open}");
    }
}
