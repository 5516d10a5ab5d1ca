//! Look-ups that the test answers, on a clock that it moves.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::*;
use crate::clock::Frozen;

/// Answers to look-ups, by the last part of one address each; `None` is a failure.
type Script = Rc<RefCell<VecDeque<Option<u8>>>>;

struct Bench {
    names: Rc<Names>,
    clock: Rc<Frozen>,
    script: Script,
    asked: Rc<Cell<usize>>,
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn bench(script: &[Option<u8>]) -> Bench {
    let script: Script = Rc::new(RefCell::new(script.iter().copied().collect()));
    let (asked, answers) = (Rc::new(Cell::new(0)), script.clone());
    let count = asked.clone();
    let ask: Ask = Rc::new(move |_| {
        count.set(count.get() + 1);
        let answer = answers.borrow_mut().pop_front();
        Box::pin(async move {
            tokio::task::yield_now().await;
            match answer {
                Some(Some(last)) => Ok(vec![address(last)]),
                Some(None) => Err(io::Error::other("SERVFAIL")),
                None => Ok(Vec::new()),
            }
        })
    });
    let clock = Frozen::at(Timestamp::UNIX_EPOCH);
    let names = Rc::new(Names::new(Clock::Frozen(clock.clone()), ask));
    Bench { names, clock, script, asked }
}

fn run(test: impl Future<Output = ()> + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

impl Bench {
    async fn look(&self) -> Result<IpAddr, String> {
        let found = self.names.addresses("a.test").await;
        // What was begun beside it comes to its end.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        found.map(|found| found[0])
    }
}

#[test]
fn a_fresh_name_is_not_looked_up_again_and_an_older_one_beside_the_calls() {
    run(async {
        let bench = bench(&[Some(1), Some(2)]);
        assert_eq!(bench.look().await, Ok(address(1)));
        bench.clock.advance(FRESH - Duration::from_millis(1));
        assert_eq!((bench.look().await, bench.asked.get()), (Ok(address(1)), 1));
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.look().await, Ok(address(1)), "nobody waits for the look-up");
        assert_eq!((bench.look().await, bench.asked.get()), (Ok(address(2)), 2));
    });
}

#[test]
fn a_failing_resolver_is_not_noticed_for_a_while() {
    run(async {
        let bench = bench(&[Some(1), None, None, None, Some(2)]);
        assert_eq!(bench.look().await, Ok(address(1)));
        bench.clock.advance(FRESH);
        assert_eq!(bench.look().await, Ok(address(1)));
        assert_eq!((bench.look().await, bench.asked.get()), (Ok(address(1)), 2), "it cools down");
        bench.clock.advance(STALE - FRESH - Duration::from_millis(1));
        assert_eq!((bench.look().await, bench.asked.get()), (Ok(address(1)), 3));
        bench.clock.advance(COOL_DOWN);
        assert_eq!(bench.look().await, Err("looking up a.test: SERVFAIL".to_owned()));
        bench.clock.advance(COOL_DOWN);
        assert_eq!(bench.look().await, Ok(address(2)));
    });
}

#[test]
fn a_name_without_an_address_is_an_error_that_cools_down() {
    run(async {
        let bench = bench(&[]);
        for _ in 0..3 {
            assert_eq!(bench.look().await, Err("a.test has no address".to_owned()));
        }
        assert_eq!(bench.asked.get(), 1);
        bench.script.borrow_mut().push_back(Some(3));
        bench.clock.advance(COOL_DOWN);
        assert_eq!(bench.look().await, Ok(address(3)));
    });
}

#[test]
fn many_wait_for_one_look_up() {
    run(async {
        let bench = Rc::new(bench(&[Some(1)]));
        let all: Vec<_> = (0..50)
            .map(|_| {
                let names = bench.names.clone();
                tokio::task::spawn_local(async move { names.addresses("a.test").await.map(|found| found[0]) })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Ok(address(1)));
        }
        assert_eq!(bench.asked.get(), 1);
    });
}

#[test]
fn names_and_look_ups_are_bounded() {
    run(async {
        let ask: Ask = Rc::new(|_| Box::pin(std::future::pending()));
        let names = Rc::new(Names::new(Clock::Frozen(Frozen::at(Timestamp::UNIX_EPOCH)), ask));
        for number in 0..LOOKUPS_MAX {
            let names = names.clone();
            tokio::task::spawn_local(async move { names.addresses(&format!("{number}.test")).await.map(|_| ()) });
        }
        for _ in 0..LOOKUPS_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(names.under_way.get(), LOOKUPS_MAX);
        for number in 0..2 * NAMES_MAX {
            assert_eq!(names.addresses(&format!("further-{number}.test")).await, Err(too_many()));
        }
        assert!(names.known.borrow().len() <= NAMES_MAX);
    });
}
