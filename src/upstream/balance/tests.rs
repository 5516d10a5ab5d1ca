//! Who is chosen, with targets that nobody listens at.

use super::weigh::number_of;
use super::*;
use crate::upstream::Origin;

fn upstream(weights: &[u32]) -> Upstream {
    let target = |(index, weight): (usize, &u32)| {
        let origin = Origin::parse(&format!("http://10.0.0.{index}")).unwrap();
        Arc::new(Target::new(Arc::new(origin), *weight))
    };
    Upstream::new("orders", weights.iter().enumerate().map(target).collect()).unwrap()
}

fn balanced(balance: Balance, weights: &[u32]) -> Upstream {
    Upstream { balance, ..upstream(weights) }
}

fn at(upstream: &Upstream, index: usize) -> Arc<Target> {
    upstream.targets()[index].clone()
}

fn index(upstream: &Upstream, chosen: &Arc<Target>) -> usize {
    upstream.targets().iter().position(|target| Arc::ptr_eq(target, chosen)).unwrap()
}

fn choose(upstream: &Upstream, now_ms: u64, tried: &[usize], key: Option<u64>) -> Option<usize> {
    let tried: Vec<_> = tried.iter().map(|tried| at(upstream, *tried)).collect();
    upstream.choose(now_ms, &tried, key).map(|chosen| index(upstream, &chosen))
}

fn turns(upstream: &Upstream, count: usize, now_ms: u64) -> Vec<usize> {
    (0..count).map(|_| choose(upstream, now_ms, &[], None).unwrap()).collect()
}

fn fail(upstream: &Upstream, index: usize, now_ms: u64) {
    upstream.failed(&at(upstream, index), now_ms);
}

fn make_unhealthy(upstream: &Upstream, index: usize, now_ms: u64) {
    let patience = crate::upstream::Patience { healthy_after: 1, unhealthy_after: 1 };
    assert!(at(upstream, index).checked(Err("down".to_owned()), patience, now_ms));
}

#[test]
fn round_robin_is_exact_over_a_cycle_and_evenly_spread() {
    assert_eq!(turns(&upstream(&[1, 1, 1]), 6, 0), [0, 1, 2, 0, 1, 2]);
    assert_eq!(turns(&upstream(&[4, 2, 2]), 8, 0), [0, 1, 2, 0, 0, 1, 2, 0]);
}

#[test]
fn round_robin_is_exact_across_threads() {
    let shared = Arc::new(upstream(&[1, 2, 3]));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || turns(&shared, 600, 0))
        })
        .collect();
    let all: Vec<usize> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    let counts = [0, 1, 2].map(|index| all.iter().filter(|taken| **taken == index).count());
    assert_eq!(counts, [400, 800, 1200]);
}

#[test]
fn failover_goes_in_order_and_retries_prefer_another() {
    let upstream = balanced(Balance::Failover, &[1, 1, 1]);
    assert_eq!(turns(&upstream, 2, 0), [0, 0]);
    assert_eq!(choose(&upstream, 0, &[0], None), Some(1));
    assert_eq!(choose(&upstream, 0, &[0, 1, 2], None), Some(0));
}

/// Chooses so often, with every call going on, and counts who has how many.
fn loads(upstream: &Upstream, calls: usize) -> Vec<u32> {
    let held: Vec<_> =
        (0..calls).map(|_| upstream.load(&upstream.choose(0, &[], None).unwrap()).expect("it counts")).collect();
    let loads = upstream.targets().iter().map(|target| target.in_flight()).collect();
    drop(held);
    loads
}

#[test]
fn least_requests_fills_all_targets_by_their_weights() {
    let upstream = balanced(Balance::LeastRequests, &[1, 1, 2]);
    assert_eq!(loads(&upstream, 40), [10, 10, 20]);
    let _busy: Vec<_> = (0..5).map(|_| at(&upstream, 2).begin()).collect();
    let taken = turns(&upstream, 10, 0);
    assert!(!taken.contains(&2) && taken.contains(&0) && taken.contains(&1), "{taken:?}");
    assert_eq!(choose(&upstream, 0, &[0, 1], None), Some(2), "retries prefer one that was not tried");
}

#[test]
fn of_two_that_are_drawn_the_less_loaded_is_taken() {
    let upstream = balanced(Balance::Random, &[1, 1]);
    let _busy = at(&upstream, 0).begin();
    assert_eq!(turns(&upstream, 20, 0), [1; 20], "with two targets both are drawn");
    let many = balanced(Balance::Random, &[1; 10]);
    many.draws.store(1, Relaxed);
    let loads = loads(&many, 1000);
    // Ten times as even as one draw alone would be: the highest of ten has about 130 then.
    assert!(loads.iter().all(|load| (95..=105).contains(load)), "{loads:?}");
    assert_eq!(choose(&balanced(Balance::Random, &[1]), 0, &[], None), Some(0));
}

#[test]
fn only_balances_that_look_at_load_count_it() {
    for balance in [Balance::RoundRobin, Balance::Failover, Balance::Hash] {
        let upstream = balanced(balance, &[1]);
        assert!(upstream.load(&at(&upstream, 0)).is_none(), "{balance:?}");
    }
}

#[test]
fn a_key_stays_with_its_target_while_that_is_usable() {
    let mut upstream = balanced(Balance::Hash, &[1, 1, 1]);
    upstream.eject = Some(Eject { failures: 1, for_: Duration::from_millis(100), at_most_percent: 50 });
    let key = |key: u32| Some(number_of(&key.to_string()));
    let before: Vec<_> = (0..300).map(|number| choose(&upstream, 10, &[], key(number))).collect();
    assert_eq!(before, (0..300).map(|number| choose(&upstream, 10, &[], key(number))).collect::<Vec<_>>());
    assert!([0, 1, 2].iter().all(|target| before.contains(&Some(*target))));
    fail(&upstream, 1, 10);
    for (number, before) in (0..300).zip(&before) {
        let now = choose(&upstream, 50, &[], key(number));
        assert!(now != Some(1) && (*before == Some(1) || now == *before));
        assert_eq!(choose(&upstream, 110, &[], key(number)), *before, "it comes back to what it had");
    }
    assert_eq!(turns(&upstream, 3, 200).len(), 3, "without a key they go in turn");
}

#[test]
fn failing_targets_are_left_alone_but_never_too_many() {
    let mut upstream = upstream(&[1, 1, 1]);
    upstream.eject = Some(Eject { failures: 2, for_: Duration::from_millis(100), at_most_percent: 50 });
    fail(&upstream, 0, 10);
    at(&upstream, 0).succeeded();
    fail(&upstream, 0, 10);
    assert!(!at(&upstream, 0).is_ejected(10), "not consecutive");
    fail(&upstream, 0, 10);
    assert!(at(&upstream, 0).is_ejected(10));
    assert_eq!(turns(&upstream, 4, 10), [1, 2, 1, 2]);
    fail(&upstream, 1, 10);
    fail(&upstream, 1, 10);
    assert!(!at(&upstream, 1).is_ejected(10), "two of three are more than half");
    assert!(!at(&upstream, 0).is_ejected(110));
}

#[test]
fn with_none_left_nothing_or_the_longest_at_peace() {
    let mut upstream = upstream(&[1, 1]);
    upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(1), at_most_percent: 100 });
    fail(&upstream, 1, 10);
    fail(&upstream, 0, 20);
    assert_eq!(choose(&upstream, 30, &[], None), None);
    upstream.when_none_try_any = true;
    assert_eq!(choose(&upstream, 30, &[], None), Some(1));
}

#[test]
fn what_checks_say_is_no_ejection_and_has_no_bound() {
    let mut upstream = upstream(&[1, 1, 1]);
    upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(1), at_most_percent: 34 });
    make_unhealthy(&upstream, 0, 10);
    make_unhealthy(&upstream, 2, 20);
    assert_eq!(turns(&upstream, 2, 30), [1, 1]);
    fail(&upstream, 1, 30);
    assert_eq!(choose(&upstream, 40, &[], None), None, "the one ejection that the bound allows");
    upstream.when_none_try_any = true;
    assert_eq!(choose(&upstream, 40, &[], None), Some(0), "the one that failed least recently");
}

#[test]
fn workers_that_choose_at_once_find_the_one_target_that_is_usable() {
    let upstream = upstream(&[1; 8]);
    (0..7).for_each(|index| at(&upstream, index).eject(0, Duration::from_secs(3600)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50_000).for_each(|_| assert_eq!(choose(&upstream, 1, &[], None), Some(7))));
        }
    });
}
